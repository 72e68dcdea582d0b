"""Raw inference: named tensors in, named tensors out, on any model whose graph has tensors to give.

A job may ask for it whatever the model's own task is. What it may send and ask for is the model's signature.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import ClassVar

import numpy as np

from fleet.contracts import MediaKind, ResultKind, Stage
from fleet.errors import ModelError, ValidationFailed
from fleet.tensors import TASK_NAME, DataType, OutputChoice, TensorParams
from worker.contract import Array, Model, Progress, RequestTensor, Signature, TaskParams, TaskSettings
from worker.engine.feeds import carried, feeds_of
from worker.media.tensors import NamedArray

#: Runs on less than this take little memory, and need not ask for it.
_SMALL_BYTES = 1024**2


class Tensors:
    """The graph as it is."""

    name: ClassVar[str] = TASK_NAME
    accepts: ClassVar[MediaKind] = MediaKind.TENSORS
    returns: ClassVar[ResultKind] = ResultKind.TENSORS

    class Settings(TaskSettings):
        pass

    class Params(TensorParams, TaskParams):
        pass

    def run(
        self, media: Mapping[str, Array], params: TensorParams, model: Model, progress: Progress
    ) -> list[NamedArray]:
        """Raises ValidationFailed, naming the tensor, what was given and what is wanted."""
        signature = model.signature
        with progress.stage(Stage.PREPARE):
            wanted = wanted_outputs(params.outputs, signature)
            feeds = feeds_of(media, signature)
            _ask_for_memory(feeds, model, progress)
        with progress.stage(Stage.INFER):
            rows = next((len(feed) for feed in feeds.values()), 0) if signature.max_batch_size else 0
            outputs = model.batched(feeds) if rows else model.run(feeds)
        with progress.stage(Stage.FINISH):
            return [_answer(choice, tensor, outputs[tensor.name], signature) for choice, tensor in wanted]

    def check(self, model: Model) -> Iterator[str]:
        """Nothing of its own: declared tensors are compared with the graph's whatever the model's task is."""
        yield from ()


def wanted_outputs(choices: Sequence[OutputChoice], signature: Signature) -> list[tuple[OutputChoice, RequestTensor]]:
    """The outputs that were asked for, in that order. Raises ValidationFailed `output-unknown`."""
    known = {tensor.name: tensor for tensor in signature.outputs}
    if not choices:
        return [(OutputChoice(name=name), tensor) for name, tensor in known.items()]
    for choice in choices:
        if choice.name not in known:
            raise ValidationFailed(
                f"the model has no output {choice.name!r}; it has {', '.join(known)}",
                code="output-unknown",
                tensor=choice.name,
                known=list(known),
            )
        if choice.classification and known[choice.name].datatype in (DataType.BYTES, DataType.BOOL):
            raise ValidationFailed(
                f"the output {choice.name!r} is of {known[choice.name].datatype}: classes are ranked by numbers alone",
                code="classification-impossible",
                tensor=choice.name,
            )
    return [(choice, known[choice.name]) for choice in choices]


def _ask_for_memory(feeds: Mapping[str, Array], model: Model, progress: Progress) -> None:
    held = sum(feed.nbytes for feed in feeds.values())
    if held < _SMALL_BYTES:
        return
    shapes = {name: feed.shape for name, feed in feeds.items()}
    need = model.run_bytes(shapes)
    numbers = all(feed.dtype.kind != "O" for feed in feeds.values())
    if numbers and set(shapes) == {tensor.name for tensor in model.inputs} and held + need > progress.memory_bytes:
        need = model.run_bytes(shapes, weigh_with=progress)
    progress.admit(f"raw inference on {held:,} bytes of tensors", held + need)


def _answer(choice: OutputChoice, tensor: RequestTensor, array: Array, signature: Signature) -> NamedArray:
    if not isinstance(array, np.ndarray):
        raise ModelError(f"the output {tensor.name!r} is no tensor", code="model-tensors", tensor=tensor.name)
    if tensor.graph_shape is not None and tensor.shape is not None and array.ndim == len(tensor.graph_shape):
        array = array.reshape(carried(array.shape, tensor.graph_shape, tensor.shape))
    if choice.classification:
        array = ranked(array, choice.classification, tensor.classes, batched=signature.max_batch_size > 0)
    return NamedArray(tensor.name, array)


def ranked(scores: Array, best: int, classes: Sequence[str] = (), *, batched: bool = False) -> Array:
    """The best classes in Triton's words, "value:index" or "value:index:name", best first.

    scores: [batch, ...] -> strings [batch, n], or without a batch [...] -> [n]; n is at most the number of scores.
    """
    batched = batched and scores.ndim > 0
    rows = scores.reshape(len(scores), prod(scores.shape[1:])) if batched else scores.reshape(1, scores.size)
    n = min(best, rows.shape[1])
    words = np.empty((len(rows), n), object)
    for at, row in enumerate(rows):
        for rank, index in enumerate(_descending(row)[:n]):
            value = f"{float(row[index]):f}" if row.dtype.kind == "f" else str(int(row[index]))
            label = f":{classes[index]}" if index < len(classes) and classes[index] else ""
            words[at, rank] = f"{value}:{index}{label}"
    return words if batched else words[0]


def _descending(row: Array) -> Array:
    """Indices, highest value first, equal ones in their own order, and what is no number at the end."""
    if row.dtype.kind == "f":
        return np.argsort(-row, kind="stable")
    return len(row) - 1 - np.argsort(row[::-1], kind="stable")[::-1]


TASK = Tensors()
