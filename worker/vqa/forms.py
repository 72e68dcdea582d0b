"""What one graph is good for, seen from its inputs and outputs: an exporter's file names mean nothing.

    pixels                                  -> vision        image_embeds [pictures, tokens, width]
    ids, states (of the picture)            -> question      question_embeds [rows, tokens, width]
    ids, states (of question or picture)    -> decoder       logits [rows, tokens, words], with or without a cache
    ids, past (and states)                  -> with past     the same, for one more token
    ids, past, states, use_cache_branch     -> merged        both in one file

Names are those of transformers' exporters, and of hand-made ones that were seen: image_embeds, image_embeddings and
encoder_hidden_states are the same thing, past_key_values.0.decoder.key and in_past_key_value.0.key as well.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fleet.errors import ModelError
from worker.contract import Model, Tensor

#: Layer, side ("decoder": the text so far, "encoder": what it looks at), and "key" or "value".
PastKey = tuple[int, str, str]
_PAST = re.compile(r"(?:\w*(?:past|present)\w*)\.(\d+)\.(?:(decoder|encoder|self|cross)\.)?(key|value)")
_SIDES = {None: "decoder", "self": "decoder", "cross": "encoder"}
_LOGITS = ("logits", "prediction_logits")
_STATES = ("image_embeds", "question_embeds", "last_hidden_state", "image_embeddings", "hidden_states")


class Part(StrEnum):
    PIXELS = "pixels"
    IDS = "ids"
    MASK = "mask"
    STATES = "states"
    STATES_MASK = "states mask"
    BRANCH = "branch"


class Kind(StrEnum):
    """In words that a sentence about a graph can use."""

    VISION = "vision encoder"
    QUESTION = "question encoder"
    DECODER = "decoder"
    WITH_PAST = "decoder with past"
    MERGED = "merged decoder"


@dataclass(frozen=True)
class Form:
    """One graph, its tensors by what they are for."""

    name: str
    kind: Kind
    #: Only those that the graph declares; a tensor that it does not have is not fed.
    inputs: Mapping[Part, Tensor]
    output: Tensor
    past: Mapping[PastKey, Tensor] = field(default_factory=dict)
    #: Names of the outputs.
    present: Mapping[PastKey, str] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        return len({layer for layer, _, _ in (*self.past, *self.present)})


def form_of(name: str, model: Model, words: int) -> Form:
    """`words`: the size of the vocabulary, by which a decoder is known where its output has another name than logits.

    Raises ModelError `unknown-input`, `unknown-output` or `static-graph`.
    """
    past = {key: tensor for tensor in model.inputs if (key := _past_key(tensor.name)) is not None}
    inputs = _parts(name, [tensor for tensor in model.inputs if _past_key(tensor.name) is None])
    present = {key: tensor.name for tensor in model.outputs if (key := _past_key(tensor.name)) is not None}
    outputs = [tensor for tensor in model.outputs if _past_key(tensor.name) is None]
    if inputs.keys() == {Part.PIXELS}:
        form = Form(name, Kind.VISION, inputs, _states(name, outputs))
    elif Part.PIXELS in inputs or Part.IDS not in inputs or not (past or Part.STATES in inputs):
        raise ModelError(
            f"{name}.onnx takes {_listed(model.inputs)}, which is no part of a model that answers questions. One "
            "takes pixels alone, the others token ids and what the picture or the question became: export it in parts",
            code="unknown-input",
        )
    else:
        logits = _logits(outputs, words)
        if logits is None and not past and not present:
            form = Form(name, Kind.QUESTION, inputs, _states(name, outputs))
        elif logits is None:
            raise ModelError(
                f"{name}.onnx is a decoder, and none of its outputs, {_listed(outputs)}, has a number for each of the "
                f"{words} words",
                code="unknown-output",
            )
        else:
            kind = Kind.MERGED if Part.BRANCH in inputs else Kind.WITH_PAST if past else Kind.DECODER
            form = Form(name, kind, inputs, logits, past, present)
    _refuse_static(form)
    return form


def _past_key(name: str) -> PastKey | None:
    found = _PAST.fullmatch(name)
    return None if found is None else (int(found[1]), _SIDES.get(found[2], found[2]), found[3])


def _parts(graph: str, tensors: Sequence[Tensor]) -> dict[Part, Tensor]:
    """By types and names, and where names say nothing by their order: ids, mask, states, mask of the states."""
    parts: dict[Part, Tensor] = {}
    for tensor in tensors:
        rank, name = len(tensor.shape), tensor.name
        part: Part | None = None
        if rank == 4:
            part = Part.PIXELS
        elif rank == 3 and tensor.dtype.kind == "f":
            part = Part.STATES
        elif name == "use_cache_branch":
            part = Part.BRANCH
        elif rank == 2 and "mask" in name:
            of_states = "encoder" in name or "image" in name or name == "cross_attention_mask"
            part = Part.STATES_MASK if of_states else Part.MASK
        elif rank == 2 and tensor.dtype.kind in "iu" and not ("type" in name or "position" in name):
            order = (Part.STATES_MASK,) if Part.STATES in parts and Part.IDS in parts else (Part.IDS, Part.MASK)
            part = next((part for part in order if part not in parts), None)
        if part is None or part in parts:
            raise ModelError(
                f"{graph}.onnx takes {name} {tensor.dtype.name} {list(tensor.shape)}, and what to feed it is not known",
                code="unknown-input",
            )
        parts[part] = tensor
    return parts


def _logits(outputs: Sequence[Tensor], words: int) -> Tensor | None:
    wide = [tensor for tensor in outputs if len(tensor.shape) == 3]
    named = [tensor for tensor in wide if tensor.name in _LOGITS]
    return next(iter(named or [tensor for tensor in wide if tensor.shape[-1] == words]), None)


def _states(graph: str, outputs: Sequence[Tensor]) -> Tensor:
    found = [tensor for tensor in outputs if len(tensor.shape) == 3]
    named = [tensor for name in _STATES for tensor in found if tensor.name == name]
    if not found or (len(found) > 1 and not named):
        raise ModelError(
            f"{graph}.onnx gives {_listed(outputs)}, and one output with a vector for each token is looked for",
            code="unknown-output",
        )
    return (named or found)[0]


def _refuse_static(form: Form) -> None:
    """Batches and texts grow."""
    for part, tensor in form.inputs.items():
        free = {Part.PIXELS: (), Part.BRANCH: (), Part.STATES: (0, 1)}.get(part, (0, 1))
        _refuse_fixed(form, tensor, free)
    for tensor in form.past.values():
        _refuse_fixed(form, tensor, (0, 2))


def _refuse_fixed(form: Form, tensor: Tensor, free: Sequence[int]) -> None:
    # What a picture becomes has the same number of tokens each time.
    fixed = [axis for axis in free if tensor.shape[axis] > 0 and not (axis == 1 and len(tensor.shape) == 3)]
    if fixed:
        raise ModelError(
            f"{form.name}.onnx takes {tensor.name} {list(tensor.shape)} and nothing else: texts have any length, and "
            "are decoded several at a time; export it with free batch and lengths",
            code="static-graph",
        )


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype.name} {list(tensor.shape)}" for tensor in tensors) or "nothing"
