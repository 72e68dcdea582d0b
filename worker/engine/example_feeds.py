"""Random inputs to try a graph with, of a shape that is likely."""

from collections.abc import Mapping, Sequence

import numpy as np

from worker.contract import Array, Shapes, Tensor

SEED = 20_240_601
#: By the number of dimensions, for each free one but the first: a text, a picture, a volume.
_LIKELY = {2: 16, 3: 16, 4: 224, 5: 64}


def random_feeds(inputs: Sequence[Tensor], shapes: Shapes | None = None, seed: int = SEED) -> dict[str, Array]:
    """Random values for every input, the same for the same seed.

    `shapes`: those that are known better than the graph says, by input; -1 is free there too.
    """
    random = np.random.default_rng(seed)
    known = shapes or {}
    return {
        tensor.name: random_values(tensor.dtype, likely_shape(known.get(tensor.name, tensor.shape)), random)
        for tensor in inputs
    }


def likely_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """With a size for each free dimension: 1 for the first, which usually counts the batch."""
    free = _LIKELY.get(len(shape), 1)
    return tuple(size if size >= 0 else (1 if axis == 0 else free) for axis, size in enumerate(shape))


def random_values(dtype: np.dtype[np.generic], shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Floats in 0 to 1. Integers 0 and 1, since a larger one may be no index of what it points into."""
    if dtype.kind == "f":
        return random.random(shape, np.float32).astype(dtype)
    if dtype.kind == "O":
        return np.full(shape, "a", object)
    return random.integers(0, 2, shape).astype(dtype)


def shapes_of(feeds: Mapping[str, Array]) -> str:
    """For people: "image 1×3×224×224, mask 1×16"."""
    return ", ".join(f"{name} {'×'.join(map(str, feed.shape)) or 'scalar'}" for name, feed in feeds.items())
