"""Exact order statistics of a volume without a sorted copy of it.

A radix selection: every pass over the planes counts 16 more bits of the values' sort keys, so 16-bit volumes take one
pass, float32 two and float64 four, and memory is a few copies of one plane.
"""

import numpy as np
import numpy.typing as npt

from worker.contract import Array

Keys = npt.NDArray[np.unsignedinteger]


def ordered(array: Array, ranks: list[int]) -> list[float]:
    """The values at these places, from 0, of the sorted array. It holds integers or floats, and no NaN."""
    bits = 8 * array.dtype.itemsize
    digit = min(16, bits)
    found = [(0, rank) for rank in ranks]
    for shift in range(bits - digit, -1, -digit):
        below = {prefix: np.cumsum(n) for prefix, n in _counts(array, {p for p, _ in found}, shift, digit).items()}
        found = [_step(prefix, rank, below[prefix], digit) for prefix, rank in found]
    return [_value(key, array.dtype) for key, _ in found]


def _counts(array: Array, prefixes: set[int], shift: int, digit: int) -> dict[int, npt.NDArray[np.int64]]:
    """How often each next digit follows each prefix of the keys."""
    counts = {prefix: np.zeros(1 << digit, dtype=np.int64) for prefix in prefixes}
    whole = shift + digit == 8 * array.dtype.itemsize
    for plane in array:
        keys = _keys(plane.reshape(-1))
        for prefix in prefixes:
            members = keys if whole else keys[keys >> (shift + digit) == prefix]
            digits = (members >> shift) & ((1 << digit) - 1)
            counts[prefix] += np.bincount(digits.astype(np.int64), minlength=1 << digit)
    return counts


def _step(prefix: int, rank: int, below: npt.NDArray[np.int64], digit: int) -> tuple[int, int]:
    """The prefix one digit longer that holds the rank, and the rank among its values."""
    at = int(np.searchsorted(below, rank, side="right"))
    return (prefix << digit) | at, rank - (int(below[at - 1]) if at else 0)


def _keys(values: Array) -> Keys:
    """Unsigned integers in the order of the values."""
    native = values.dtype.newbyteorder("=")
    raw = np.ascontiguousarray(values, dtype=native).view(f"u{native.itemsize}")
    top = raw.dtype.type(1 << (8 * native.itemsize - 1))
    if native.kind == "f":
        # Negative floats grow with their magnitude's bits, so theirs are all turned round.
        return np.where(raw & top, ~raw, raw | top)
    return np.asarray(raw ^ top if native.kind == "i" else raw)


def _value(key: int, dtype: np.dtype[np.generic]) -> float:
    native = dtype.newbyteorder("=")
    bits = 8 * native.itemsize
    top = 1 << (bits - 1)
    if native.kind == "i":
        key ^= top
    elif native.kind == "f":
        key = key ^ top if key & top else key ^ ((1 << bits) - 1)
    return float(np.array([key], dtype=f"u{native.itemsize}").view(native)[0])
