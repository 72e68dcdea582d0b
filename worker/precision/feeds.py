"""Inputs to calibrate and to compare with: NumPy files, else random ones that say so.

A `.npz` file holds one array for each input, by name; a `.npy` file the only input of a model. An array with one
dimension more than the input holds several of them, one behind the other. A folder holds any number of such files.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fleet.errors import ValidationFailed
from worker.contract import Array, Tensor
from worker.engine.example_feeds import SEED, random_feeds

Feeds = dict[str, Any]
_RANDOM = 8


def read_feeds(path: Path, inputs: Sequence[Tensor]) -> Iterator[Feeds]:
    """One after another, files in the order of their names. Raises ValidationFailed `invalid-feeds`."""
    files = sorted(file for file in path.iterdir() if file.suffix in (".npz", ".npy")) if path.is_dir() else [path]
    if not files:
        raise _invalid(f"{path} holds no .npz or .npy files")
    for file in files:
        yield from _of_file(file, inputs)


def random_samples(inputs: Sequence[Tensor]) -> list[Feeds]:
    """The same ones every time."""
    return [random_feeds(inputs, seed=SEED + number) for number in range(_RANDOM)]


def _of_file(file: Path, inputs: Sequence[Tensor]) -> Iterator[Feeds]:
    arrays = {tensor.name: _fitting(file, tensor, array) for tensor, array in _arrays(file, inputs)}
    several = {tensor.name: arrays[tensor.name].ndim > len(tensor.shape) for tensor in inputs}
    if not any(several.values()):
        yield arrays
        return
    counts = {arrays[name].shape[0] for name, more in several.items() if more}
    if len(counts) > 1 or not all(several.values()):
        raise _invalid(f"{file}: all inputs must hold equally many samples, or one each")
    for number in range(counts.pop()):
        yield {name: array[number] for name, array in arrays.items()}


def _arrays(file: Path, inputs: Sequence[Tensor]) -> Iterator[tuple[Tensor, Array]]:
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if len(inputs) != 1:
                raise _invalid(f"{file}: the model has {len(inputs)} inputs, put them into one .npz file by name")
            yield inputs[0], loaded
            return
        with loaded:
            for tensor in inputs:
                if tensor.name not in loaded:
                    raise _invalid(f"{file} has no array {tensor.name!r}; it has {', '.join(loaded) or 'none'}")
                yield tensor, loaded[tensor.name]
    except (OSError, ValueError, EOFError) as error:
        raise _invalid(f"{file} is no file of NumPy arrays: {error}") from error


def _fitting(file: Path, tensor: Tensor, array: Array) -> Array:
    if tensor.dtype.kind == "O":
        array = array.astype(object)
    if not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
        raise _invalid(f"{file}: {tensor.name!r} is {array.dtype}, and the model takes {tensor.dtype}")
    of_one = array.shape[1:] if array.ndim == len(tensor.shape) + 1 else array.shape
    if len(of_one) != len(tensor.shape) or any(
        size not in (-1, found) for size, found in zip(tensor.shape, of_one, strict=True)
    ):
        raise _invalid(f"{file}: {tensor.name!r} has the shape {array.shape}, and the model takes {tensor.shape}")
    return array.astype(tensor.dtype, copy=False)


def _invalid(message: str) -> ValidationFailed:
    return ValidationFailed(message, code="invalid-feeds")
