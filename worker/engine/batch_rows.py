"""Rows of a batch: what may be joined, how it is joined, and how the outputs come apart again. For the batcher."""

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from fleet.errors import ModelError, ValidationFailed
from worker.contract import Array, Tensor

#: What decides who may be joined: per input its name, type, and shape behind the batch's axis.
Bucket = tuple[tuple[str, str, tuple[int, ...]], ...]
#: The operator takes one scale from all values of a tensor, and so from all rows: beside a row fifty times as loud, a
#: classifier's scores were wrong by half (measured).
_ONE_SCALE_FOR_ALL = b"DynamicQuantizeLinear"


@dataclass(frozen=True)
class Answer:
    """A call's own rows, and how many rows the run had that made them."""

    outputs: dict[str, Array]
    batch_size: int


def rows_of(feeds: Mapping[str, Array]) -> int:
    """The size of the first axis, which all inputs share. Raises ModelError `inference-invalid-input`."""
    sizes: dict[str, int | None] = {name: feed.shape[0] if feed.ndim else None for name, feed in feeds.items()}
    found = set(sizes.values())
    if len(found) != 1 or None in found:
        said = ", ".join(f"{name} {list(feed.shape)}" for name, feed in feeds.items()) or "none"
        raise ModelError(
            f"the first axis of every input is the batch's and must be of one size; the inputs are: {said}",
            code="inference-invalid-input",
        )
    return next(size for size in found if size is not None)


def refuse_too_many(rows: int, most: int) -> None:
    """Raises ValidationFailed `batch-too-large`."""
    if rows > most:
        raise ValidationFailed(
            f"the request is a batch of {rows}, and the model takes at most {most}: split it, or raise its "
            "max_batch_size",
            code="batch-too-large",
            batch=rows,
            max_batch_size=most,
        )


def bucket_of(feeds: Mapping[str, Array]) -> Bucket:
    return tuple(sorted((name, feed.dtype.str, feed.shape[1:]) for name, feed in feeds.items()))


def joined(all_feeds: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    """One feed of all rows, in order. The only copy that batching makes; feeds that are alone are not copied."""
    if len(all_feeds) == 1:
        return all_feeds[0]
    return {name: np.concatenate([feeds[name] for feeds in all_feeds]) for name in all_feeds[0]}


def parted(outputs: Mapping[str, Array], sizes: Sequence[int]) -> list[dict[str, Array]]:
    """Each feed's own rows of the outputs, as views."""
    ends = list(accumulate(sizes))
    return [
        {name: values[end - size : end] for name, values in outputs.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]


def lacks_rows(outputs: Mapping[str, Array], rows: int) -> str | None:
    """Which output's first axis is not the batch's, in words; None when all are."""
    for name, values in outputs.items():
        shape = getattr(values, "shape", None)
        if shape is None:
            return f"the output {name!r} is not a tensor"
        if not shape or shape[0] != rows:
            return f"the output {name!r} is {list(shape)} for a batch of {rows}: its first axis must be the batch's"
    return None


def never_joins(graph: Path, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> str | None:
    """Why a graph cannot run batches of any size, in words; None when nothing that can be seen speaks against it.

    An output without a shape is one that the graph leaves open; the first batch shows it.
    """
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            if tensor.shape and tensor.shape[0] != -1:
                shape = list(tensor.shape)
                return f"the {kind} {tensor.name!r} is {shape}: its first axis must be free (-1) to be a batch's"
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_ONE_SCALE_FOR_ALL) >= 0:
            return "it is quantised dynamically: all rows of a batch would share one scale, and blur each other"
    return None
