"""Warm-up: the runs that a model's author wants to be over before the first request."""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fleet.errors import FleetError, InputError, ModelError
from fleet.tensors import Blob, DataType
from worker.contract import Array, RequestTensor
from worker.engine.example_feeds import SEED, random_values
from worker.engine.feeds import feeds_of
from worker.engine.graph_tensors import graph_tensors
from worker.engine.manifest import Warmup, WarmupInput
from worker.engine.model_version import ModelVersion
from worker.media.tensors import array_of, dtype_of

#: Beside config.pbtxt, as in Triton.
FOLDER = "warmup"
Run = Callable[[Mapping[str, Array]], Any]
#: Of one tensor. No memory is asked for before it is made, and a configuration may come with a request.
_MOST_BYTES = 1024**3
_POINTER_BYTES = 8


def warm(version: ModelVersion, runs: Mapping[str, Run]) -> int:
    """Runs all that the manifest's `warmup` says, in order -> how many runs.

    runs: those of the loaded graphs, by their names. Where there are several, each gets every run.
    Raises ModelError: `warmup-invalid` for what cannot be fed, `warmup-failed` for a run that fails.
    """
    done = 0
    for number, sample in enumerate(version.manifest.warmup):
        name = sample.name or f"number {number + 1}"
        for _ in range(sample.count):
            for graph, run in runs.items():
                feeds = (
                    _zeros_for(version, graph, sample, name) if len(runs) > 1 else warmup_feeds(version, sample, name)
                )
                try:
                    run(feeds)
                except ModelError as error:
                    raise ModelError(f"the warm-up {name!r} failed: {error.message}", code="warmup-failed") from error
                done += 1
    return done


def _zeros_for(version: ModelVersion, graph: str, sample: Warmup, name: str) -> dict[str, Array]:
    """Of one graph of several. Raises ModelError `warmup-invalid`."""
    if sample.inputs:
        raise ModelError(
            f"the warm-up {name!r} cannot be fed: its inputs do not say of which graph they are; leave them out, and "
            "each graph is warmed on zeros",
            code="warmup-invalid",
        )
    rows = max(sample.batch_size, 1)
    feeds = {}
    for tensor in graph_tensors(version.graphs[graph]).inputs:
        if tensor.datatype is None:
            raise ModelError(f"the warm-up {name!r} cannot feed {graph}'s {tensor.name}", code="warmup-invalid")
        shape = tensor.shape or ()
        feeds[tensor.name] = _zeros(
            tensor.datatype, tuple(size if size >= 0 else rows if axis == 0 else 1 for axis, size in enumerate(shape))
        )
    return feeds


def warmup_feeds(version: ModelVersion, sample: Warmup, name: str) -> dict[str, Array]:
    """What the graph is fed. Raises ModelError `warmup-invalid`."""
    try:
        return feeds_of(dict(_given(version, sample)), version.signature)
    except (InputError, OSError, ValueError) as error:
        said = error.message if isinstance(error, FleetError) else str(error)
        raise ModelError(f"the warm-up {name!r} cannot be fed: {said}", code="warmup-invalid") from error


def _given(version: ModelVersion, sample: Warmup) -> Iterator[tuple[str, Array]]:
    signature, random = version.signature, np.random.default_rng(SEED)
    rows = (max(sample.batch_size, 1),) if signature.max_batch_size else ()
    if not sample.inputs:
        for tensor in signature.inputs:
            if not tensor.optional:
                yield tensor.name, _zeros(tensor.datatype, rows + _sizes(tensor, batched=bool(rows)))
        return
    for name, told in sample.inputs.items():
        shape = (*rows, *told.shape)
        _check_size(told.datatype, shape)
        if told.file is not None:
            data = _file(version.folder.parent, told).read_bytes()
            yield name, array_of(_checked(Blob(name, told.datatype, shape, data)))
        elif told.fill == "zero":
            yield name, _zeros(told.datatype, shape)
        else:
            yield name, random_values(dtype_of(told.datatype), shape, random)


def _sizes(tensor: RequestTensor, *, batched: bool) -> tuple[int, ...]:
    sizes = tuple(1 if size < 0 else size for size in tensor.shape or ())
    return sizes[1:] if batched else sizes


def _check_size(datatype: DataType, shape: tuple[int, ...]) -> None:
    if prod(shape) * (datatype.width or _POINTER_BYTES) > _MOST_BYTES:
        raise ValueError(f"{datatype} {list(shape)} is more than the {_MOST_BYTES >> 20} MiB that a warm-up may hold")


def _zeros(datatype: DataType, shape: tuple[int, ...]) -> Array:
    return np.full(shape, "", object) if datatype is DataType.BYTES else np.zeros(shape, dtype_of(datatype))


def _file(folder: Path, told: WarmupInput) -> Path:
    path = folder / FOLDER / str(told.file)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {FOLDER}/{told.file} in the model's folder")
    return path


def _checked(blob: Blob) -> Blob:
    width = blob.datatype.width
    if width is not None and len(blob.data) != width * blob.count:
        raise ValueError(
            f"the file for {blob.name!r} holds {len(blob.data)} bytes, and {blob.datatype} {list(blob.shape)} takes "
            f"{width * blob.count}"
        )
    return blob
