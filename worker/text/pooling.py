"""From the vectors of tokens to that of a text, as sentence-transformers does it."""

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array
from worker.text.settings import Pooling

#: As torch.nn.functional.normalize has it.
_LEAST_NORM = 1e-12


def pooled(hidden: Array, mask: Array, pooling: Pooling) -> Array:
    """float32 [texts, width] of [texts, tokens, width], or with `none` of what has that shape already.

    mask: [texts, tokens], 1 where a token is; each text has one, and they lie to the left.
    """
    if hidden.ndim != (2 if pooling == "none" else 3) or len(hidden) != len(mask):
        wanted = "[texts, width]" if pooling == "none" else "[texts, tokens, width]"
        raise ModelError(
            f"the graph answered with the shape {list(hidden.shape)}, and the pooling {pooling!r} wants {wanted}",
            code="pooling-shape",
        )
    values = hidden.astype(np.float32, copy=False)
    lengths = mask.sum(axis=1)
    match pooling:
        case "none":
            return values
        case "cls":
            return values[:, 0]
        case "last":
            last: Array = values[np.arange(len(values)), lengths - 1]
            return last
        case "max":
            highest: Array = np.where(mask[:, :, None] > 0, values, -np.inf).max(axis=1)
            return highest
        case "mean":
            # A product of matrices reads the tokens once and makes no copy of them.
            weights = (mask / lengths[:, None]).astype(np.float32)
            mean: Array = np.matmul(weights[:, None, :], values)[:, 0]
            return mean


def cut(vectors: Array, dimensions: int | None, *, normalize: bool) -> Array:
    """The first `dimensions` numbers of each vector, and then one unit long where that is wanted. [texts, width]."""
    shorter = vectors if dimensions is None else vectors[:, :dimensions]
    if not normalize:
        return shorter
    norms = np.sqrt(np.einsum("ij,ij->i", shorter, shorter))
    unit: Array = shorter / np.maximum(norms, _LEAST_NORM)[:, None]
    return unit
