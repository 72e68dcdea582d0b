"""Which numbers of a graph's outputs are the vector of a picture, or of a text, as the library that made it has it.

Where several readings make sense and differ, none is taken: the author must say which, and the error names them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array, Tensor
from worker.embedding.settings import ImageEmbeddingSettings, Pooling

_PROJECTED, _POOLED, _HIDDEN = "image_embeds", "pooler_output", "last_hidden_state"
#: Of transformers: `pooler_output` is what the library itself goes on with.
_POOLED_BY_LIBRARY = ("clip", "siglip", "dinov2", "dinov3", "convnext", "resnet", "regnet", "swin")
#: Of transformers: `pooler_output` is the first token, so an export without it leaves nothing open.
_FIRST_TOKEN = ("dinov2", "dinov3_vit")
#: Readings that differ by less, as a part of the largest number, are one.
_SAME = 1e-4


@dataclass(frozen=True)
class Reading:
    """One way to read an output."""

    output: str
    pooling: Pooling

    def of(self, outputs: Mapping[str, Array], prefix_tokens: int) -> Array:
        """float32 [pictures, width]. Raises ModelError `pooling-shape`."""
        values = outputs[self.output].astype(np.float32, copy=False)
        if self.pooling == "none":
            if values.ndim < 2 or values.size != values.shape[0] * values.shape[1]:
                raise self._mismatch(values)
            return values.reshape(len(values), -1)
        if values.ndim == 4 and self.pooling == "mean":
            means: Array = values.mean(axis=(2, 3), dtype=np.float32)
            return means
        if values.ndim != 3:
            raise self._mismatch(values)
        if self.pooling == "cls":
            return values[:, 0]
        tokens = values[:, prefix_tokens:] if self.pooling == "mean-patches" else values
        if not tokens.shape[1]:
            raise self._mismatch(values)
        mean: Array = tokens.mean(axis=1, dtype=np.float32)
        return mean

    def told(self) -> str:
        how = {"none": "as it is", "cls": "its first token", "mean": "the mean of its tokens"}
        return f"{self.output}, {how.get(self.pooling, 'the mean of its patches')}"

    def _mismatch(self, values: Array) -> ModelError:
        return ModelError(
            f"the output {self.output} has the shape {list(values.shape)}, and the pooling {self.pooling!r} does not "
            "go with it: `none` takes [pictures, width], `cls` and `mean-patches` [pictures, tokens, width], `mean` "
            "that or [pictures, width, height, width]",
            code="pooling-shape",
        )


def image_reading(
    outputs: Sequence[Tensor], settings: ImageEmbeddingSettings, family: str, probe: Mapping[str, Array]
) -> Reading:
    """Of an image tower. `family` is `model_type` of the publisher's config.json, `probe` what the graph answered once.

    Raises ModelError `unknown-output`, `pooling-ambiguous`, `pooling-shape`.
    """
    wanted = _named(outputs, settings.output)
    if settings.pooling is not None:
        return _said(outputs, wanted, settings.pooling)
    possible = _possible(wanted.name, probe) if wanted is not None else _usual(outputs, family, probe)
    if len(possible) > 1 and possible[0].pooling == "none":
        # The pooled output, and others that are it: DINOv2's is its first token, Swin's the mean of its tokens.
        first = possible[0].of(probe, settings.prefix_tokens)
        if any(_same(first, other.of(probe, settings.prefix_tokens)) for other in possible[1:]):
            return possible[0]
    if len(possible) > 1:
        raise ModelError(
            f"the vector of a picture may be {' or '.join(reading.told() for reading in possible)}, and they differ: "
            "say in model.yaml which, as pipeline.output and pipeline.pooling",
            code="pooling-ambiguous",
        )
    possible[0].of(probe, settings.prefix_tokens)
    return possible[0]


def text_reading(outputs: Sequence[Tensor], wanted: str | None, family: str, image: Reading, *, joint: bool) -> str:
    """The output of a text tower whose vectors lie in the space of `image`. Raises ModelError `unknown-output`."""
    named = _named(outputs, wanted)
    if named is not None:
        return named.name
    names = [tensor.name for tensor in outputs]
    if "text_embeds" in names:
        return "text_embeds"
    # SigLIP's two heads end in one space; CLIP's do only behind its projections, so its pooled output is no answer.
    if not joint and family.startswith("siglip") and _POOLED in names and image.output == _POOLED:
        return _POOLED
    if not joint and len(outputs) == 1 and len(outputs[0].shape) == 2 and names != [_POOLED]:
        return names[0]
    raise ModelError(
        f"which output of the text tower lies in the pictures' space is not known: it has {', '.join(names)}. "
        "Export it with its projection (text_embeds), or say which in model.yaml as pipeline.text.output",
        code="unknown-output",
    )


def _named(outputs: Sequence[Tensor], name: str | None) -> Tensor | None:
    found = next((tensor for tensor in outputs if tensor.name == name), None)
    if name is not None and found is None:
        raise ModelError(
            f"the graph has no output {name!r}: it has {', '.join(tensor.name for tensor in outputs)}",
            code="unknown-output",
        )
    return found


def _said(outputs: Sequence[Tensor], wanted: Tensor | None, pooling: Pooling) -> Reading:
    if wanted is not None:
        return Reading(wanted.name, pooling)
    names = [tensor.name for tensor in outputs]
    usual = (_PROJECTED, _POOLED) if pooling == "none" else (_HIDDEN,)
    found = next((name for name in usual if name in names), names[0] if len(names) == 1 else None)
    if found is None:
        raise _which(names)
    return Reading(found, pooling)


def _usual(outputs: Sequence[Tensor], family: str, probe: Mapping[str, Array]) -> list[Reading]:
    names = [tensor.name for tensor in outputs]
    if _PROJECTED in names:
        return [Reading(_PROJECTED, "none")]
    if _POOLED in names:
        pooled = Reading(_POOLED, "none")
        if _HIDDEN not in names or probe[_HIDDEN].ndim != 3 or family.startswith(_POOLED_BY_LIBRARY):
            return [pooled]
        return [pooled, Reading(_HIDDEN, "cls"), Reading(_HIDDEN, "mean")]
    if _HIDDEN in names:
        first_token = probe[_HIDDEN].ndim == 3 and family.startswith(_FIRST_TOKEN)
        return [Reading(_HIDDEN, "cls")] if first_token else _possible(_HIDDEN, probe)
    if len(names) != 1 or names == ["logits"]:
        raise _which(names)
    return _possible(names[0], probe)


def _possible(name: str, probe: Mapping[str, Array]) -> list[Reading]:
    """By the shape of what the graph answered."""
    shape = probe[name].shape
    if len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1)):
        return [Reading(name, "none")]
    if len(shape) == 4:
        return [Reading(name, "mean")]
    if len(shape) != 3:
        raise _which([name])
    return [Reading(name, "cls"), Reading(name, "mean")]


def _which(names: Sequence[str]) -> ModelError:
    scores = " (logits are scores of classes: image-classification reads them)" if "logits" in names else ""
    return ModelError(
        f"which output has the vector of a picture is not known: the graph has {', '.join(names)}{scores}. Say in "
        "model.yaml which, as pipeline.output",
        code="unknown-output",
    )


def _same(one: Array, other: Array) -> bool:
    return one.shape == other.shape and float(np.abs(one - other).max()) <= _SAME * float(np.abs(one).max())
