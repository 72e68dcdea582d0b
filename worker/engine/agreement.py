"""How far the outputs of two runs of one graph lie apart, and how far they may.

An accelerator computes in another order and often in shorter numbers than the CPU, so outputs are never equal to the
last bit; a broken kernel or a driver that does not fit shows as a difference of another size.
"""

from collections.abc import Mapping

import numpy as np

from worker.contract import Array

#: Of the largest magnitude of the output. For float32: TensorFloat-32, the default of CUDA's convolutions and products
#: on GPUs since 2020, has 10 bits of mantissa, 1e-3 a product.
TOLERANCE_FLOAT64 = 1e-6
TOLERANCE_FLOAT32 = 5e-3
TOLERANCE_FLOAT16 = 2e-2
#: Of integers, booleans and texts: the share of elements that may differ, as where two scores are nearly the same.
TOLERANCE_EXACT = 1e-3


def disagreement(expected: Array, found: Array) -> float:
    """0.0 for equal outputs. Of floats the largest difference, as a fraction of the largest expected magnitude.

    Of all other types the share of elements that differ. Infinite when shapes differ, or where one has a number and
    the other has none.
    """
    if expected.shape != found.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    if not np.issubdtype(expected.dtype, np.floating):
        return float(np.mean(expected != found))
    before, after = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(before)
    if not (np.array_equal(finite, np.isfinite(after)) and np.array_equal(before[~finite], after[~finite], True)):
        return float("inf")
    before, after = before[finite], after[finite]
    apart, largest = (float(np.max(np.abs(values), initial=0.0)) for values in (before - after, before))
    return apart / largest if largest > 0 else (0.0 if apart == 0 else float("inf"))


def tolerance(dtype: np.dtype[np.generic], *, half: bool = False) -> float:
    """What two outputs of that type may disagree by; `half`: one run was asked to compute in 16 or 8 bits."""
    if not np.issubdtype(dtype, np.floating):
        return TOLERANCE_EXACT
    if half or dtype.itemsize == 2:
        return TOLERANCE_FLOAT16
    return TOLERANCE_FLOAT32 if dtype.itemsize == 4 else TOLERANCE_FLOAT64


def worst(expected: Mapping[str, Array], found: Mapping[str, Array], *, half: bool = False) -> tuple[float, str | None]:
    """The largest disagreement of all outputs, and of the outputs that disagree more than they may the worst, in words.

    None in place of the words when all agree.
    """
    largest, fault, excess = 0.0, None, 1.0
    for name, before in expected.items():
        apart, allowed = disagreement(before, found[name]), tolerance(before.dtype, half=half)
        largest = max(largest, apart)
        if apart > allowed * excess:
            excess = apart / allowed
            fault = f"its output {name!r} differs by {apart:.2g}, {allowed:g} is allowed for {before.dtype}"
    return largest, fault
