"""Vectors one unit long, or an error: one of no length has no direction, so it is like nothing, and unlike nothing."""

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array
from worker.text.pooling import cut


def units(vectors: Array) -> Array:
    """float32 [rows, width], each one unit long.

    Raises ModelError `result-not-finite` for a vector of zeros, and one whose length is beyond single precision.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        made = cut(vectors, None, normalize=True)
        lengths = np.einsum("ij,ij->i", made, made)
    if not np.isfinite(lengths).all():
        raise ModelError("the model answered with numbers that are not finite", code="result-not-finite")
    if (lengths < 0.5).any():
        raise ModelError(
            "the model answered with a vector of zeros, or with one whose length is beyond single precision: it has no "
            'direction, and cannot be made one unit long. Ask for "normalize": false to see it',
            code="result-not-finite",
        )
    return made
