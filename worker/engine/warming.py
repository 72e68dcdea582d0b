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
from worker.engine.manifest import Warmup, WarmupInput
from worker.engine.model_version import ModelVersion
from worker.media.tensors import array_of, dtype_of

#: Beside config.pbtxt, as in Triton.
FOLDER = "warmup"
#: Of one tensor. No memory is asked for before it is made, and a configuration may come with a request.
_MOST_BYTES = 1024**3
_POINTER_BYTES = 8


def warm(version: ModelVersion, run: Callable[[Mapping[str, Array]], Any]) -> int:
    """Runs all that the manifest's `warmup` says, in order -> how many runs. `run` is that of the loaded model.

    Raises ModelError: `warmup-invalid` for what cannot be fed, `warmup-failed` for a run that fails.
    """
    runs = 0
    for number, sample in enumerate(version.manifest.warmup):
        name = sample.name or f"number {number + 1}"
        for _ in range(sample.count):
            feeds = warmup_feeds(version, sample, name)
            try:
                run(feeds)
            except ModelError as error:
                raise ModelError(f"the warm-up {name!r} failed: {error.message}", code="warmup-failed") from error
            runs += 1
    return runs


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
