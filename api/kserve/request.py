"""An inference request against the card of its model: from the body to tensors, before there is any job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from starlette.datastructures import Headers

from api.kserve.elements import check_bytes, from_json
from api.kserve.envelope import Envelope, SaidInput, read_envelope, wrong
from fleet.card import Card
from fleet.contracts import PriorityName
from fleet.errors import MalformedRequest
from fleet.tensors import Blob, DataType, OutputChoice, TensorSpec

HEADER_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class WantedOutput:
    """How an output goes into the answer."""

    name: str
    binary: bool
    classification: int = 0


@dataclass(frozen=True)
class InferRequest:
    id: str | None
    tensors: list[Blob]
    #: Every output that the answer has, in its order.
    outputs: list[WantedOutput]
    priority: PriorityName | None = None
    timeout_s: float | None = None

    def without_tensors(self) -> "InferRequest":
        """Once they are stored: nothing holds their bytes while the job runs."""
        return replace(self, tensors=[])

    @property
    def choices(self) -> list[OutputChoice]:
        return [OutputChoice(name=output.name, classification=output.classification) for output in self.outputs]


def read_request(body: memoryview, headers: Headers, card: Card) -> InferRequest:
    """Raises MalformedRequest, ValidationFailed, whose message names the tensor, what was given and what is wanted."""
    if not card.inputs:
        raise wrong(
            f"the model {card.name!r} takes whole files and no tensors: submit a job, POST /api/v1/jobs with "
            f'"task": "{card.task}"'
        )
    length = _header_length(headers, len(body))
    if length == 0:
        outputs = [WantedOutput(spec.name, binary=True) for spec in card.outputs]
        return InferRequest(None, [_raw_tensor(body, card)], outputs)
    envelope = read_envelope(body[:length])
    blobs = body[length:]
    tensors = _tensors(envelope.inputs, blobs, card)
    return InferRequest(envelope.id, tensors, _outputs(envelope, card), envelope.priority or None, envelope.timeout_s)


def _header_length(headers: Headers, whole: int) -> int:
    """Bytes of JSON that the body begins with; 0 for the raw form."""
    sent = headers.get(HEADER_LENGTH)
    if sent is None:
        return whole or 1
    if not (sent.isascii() and sent.isdigit()) or len(sent) > 18 or int(sent) > whole:
        raise MalformedRequest(
            f"Inference-Header-Content-Length must be a number from 0 to the {whole} bytes of the body, not {sent!r}",
            code="tensors-invalid",
        )
    return int(sent)


def _tensors(said: Sequence[SaidInput], blobs: memoryview, card: Card) -> list[Blob]:
    known = {spec.name: spec for spec in card.inputs}
    tensors: dict[str, Blob] = {}
    at = 0
    for one in said:
        spec = known.get(one.name)
        if spec is None:
            raise wrong(f"the model {card.name!r} has no input {one.name!r}; its inputs are: {_names(card.inputs)}")
        if one.name in tensors:
            raise wrong(f"input {one.name!r} was given twice")
        _check_signature(one, spec, card)
        size = one.binary_size
        tensors[one.name] = _tensor(one, spec.datatype, blobs[at : at + (size or 0)])
        at += size or 0
    if at != len(blobs):
        raise wrong(f"{len(blobs)} bytes follow the JSON, and the inputs announce {at} as `binary_data_size`")
    _check_complete(tensors, card)
    return list(tensors.values())


def _tensor(said: SaidInput, datatype: DataType, blob: memoryview) -> Blob:
    size = said.binary_size
    if size is None:
        if said.data is None:
            raise wrong(f"input {said.name!r} has neither `data` nor `binary_data_size`")
        return Blob(said.name, datatype, tuple(said.shape), from_json(said.name, datatype, said.shape, said.data))
    if said.data is not None:
        raise wrong(f"input {said.name!r} has both `data` and `binary_data_size`: send it in one form")
    if len(blob) != size:
        raise wrong(f"input {said.name!r}: {size} bytes are announced, and the body ends after {len(blob)} of them")
    check_bytes(said.name, datatype, said.shape, blob)
    return Blob(said.name, datatype, tuple(said.shape), blob)


def _check_signature(said: SaidInput, spec: TensorSpec, card: Card) -> None:
    given, wanted = f"{said.datatype} {said.shape}", f"{spec.datatype} {spec.shape}"
    fits = len(said.shape) == len(spec.shape) and all(
        free in (-1, size) for size, free in zip(said.shape, spec.shape, strict=True)
    )
    if said.datatype != spec.datatype or not fits:
        raise wrong(f"input {said.name!r}: {given} was given, and the model {card.name!r} wants {wanted} (-1: any)")
    if card.max_batch_size and said.shape[0] > card.max_batch_size:
        raise wrong(
            f"input {said.name!r}: a batch of {said.shape[0]} was given, and the model {card.name!r} takes at most "
            f"{card.max_batch_size} at once"
        )


def _check_complete(tensors: Mapping[str, Blob], card: Card) -> None:
    missing = next((spec for spec in card.inputs if not spec.optional and spec.name not in tensors), None)
    if missing is not None:
        raise wrong(
            f"input {missing.name!r} is missing: the model {card.name!r} wants {missing.datatype} {missing.shape}"
        )
    if card.max_batch_size:
        batches = {tensor.name: tensor.shape[0] for tensor in tensors.values()}
        if len(set(batches.values())) > 1:
            raise wrong(f"the inputs must have one batch size, which is their first dimension: {batches}")


def _outputs(envelope: Envelope, card: Card) -> list[WantedOutput]:
    specs = {spec.name: spec for spec in card.outputs}
    if not envelope.outputs:
        outputs = [WantedOutput(name, envelope.binary_output) for name in specs]
    else:
        outputs = []
        for said in envelope.outputs:
            if said.name not in specs:
                raise wrong(
                    f"the model {card.name!r} has no output {said.name!r}; its outputs are: {_names(card.outputs)}"
                )
            if any(said.name == other.name for other in outputs):
                raise wrong(f"output {said.name!r} is asked for twice")
            binary = said.binary if said.binary is not None else envelope.binary_output
            outputs.append(WantedOutput(said.name, binary, said.classification))
    for output in outputs:
        datatype = specs[output.name].datatype
        if datatype in (DataType.FP16, DataType.BF16) and not (output.binary or output.classification):
            raise wrong(f"output {output.name!r}: {datatype} has no form in JSON: ask for it with `binary_data`")
    return outputs


def _raw_tensor(body: memoryview, card: Card) -> Blob:
    """The body is the one input's bytes: a batch of 1, its one free dimension as long as there are bytes."""
    if len(card.inputs) != 1:
        raise wrong(
            f"a raw body (Inference-Header-Content-Length: 0) is for models with one input, and {card.name!r} has: "
            f"{_names(card.inputs)}"
        )
    (spec,) = card.inputs
    shape = list(spec.shape)
    if card.max_batch_size:
        shape[0] = 1
    width = spec.datatype.width
    if width is None:
        if [size for size in shape if size != 1] not in ([], [-1]):
            raise wrong(f"input {spec.name!r}: a raw body is one element of BYTES, and the model wants {spec.shape}")
        element = len(body).to_bytes(4, "little") + bytes(body)
        return Blob(spec.name, spec.datatype, (1,) * len(shape), element)
    free = [at for at, size in enumerate(shape) if size == -1]
    if len(free) > 1:
        raise wrong(f"input {spec.name!r}: a raw body says nothing of the free dimensions of {spec.shape}")
    if free:
        each = width * prod(size for size in shape if size != -1)
        shape[free[0]] = len(body) // each if each else 0
    check_bytes(spec.name, spec.datatype, shape, body)
    return Blob(spec.name, spec.datatype, tuple(shape), body)


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} ({spec.datatype} {spec.shape})" for spec in specs) or "none"
