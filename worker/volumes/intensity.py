"""Normalisation. Every scheme is one clip and one line: y = (clip(x, low, high) - shift) * scale + offset."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.contract import Array
from worker.volumes.ranks import ordered
from worker.volumes.settings import CtScore, DivideByMax, Intensity, Percentile, Range, Unchanged, ZScore

#: Below this a spread counts as none, as in nnU-Net.
_TINY = 1e-8


@dataclass(frozen=True)
class Line:
    """A fitted normalisation."""

    low: float | None = None
    high: float | None = None
    shift: float = 0.0
    scale: float = 1.0
    offset: float = 0.0
    #: Voxels that are exactly zero stay zero.
    keep_zero: bool = False

    def clip(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """In place."""
        if self.low is not None or self.high is not None:
            np.clip(values, self.low, self.high, out=values)
        return values

    def apply(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The line alone, in place; clip first."""
        zero = values == 0 if self.keep_zero else None
        if self.shift:
            values -= np.float32(self.shift)
        if self.scale != 1.0:
            values *= np.float32(self.scale)
        if self.offset:
            values += np.float32(self.offset)
        if zero is not None:
            values[zero] = 0
        return values


def fit(array: Array, spec: Intensity) -> Line:
    """Takes the statistics that `spec` needs from `array`, in float64 and plane by plane."""
    if isinstance(spec, Unchanged):
        return Line()
    if isinstance(spec, DivideByMax):
        peak = float(array.max())
        return Line(scale=1 / peak if peak > 0 else 1.0)
    if isinstance(spec, ZScore):
        mean, std = _moments(array, spec.nonzero)
        return Line(shift=mean, scale=1 / max(std, _TINY), keep_zero=spec.nonzero)
    if isinstance(spec, CtScore):
        return Line(low=spec.low, high=spec.high, shift=spec.mean, scale=1 / max(spec.std, _TINY))
    if isinstance(spec, Percentile):
        low, high = percentiles(array, (spec.low, spec.high))
        return Line(low=low, high=high, shift=low, scale=1 / max(high - low, _TINY))
    return _fit_range(array, spec)


def _fit_range(array: Array, spec: Range) -> Line:
    low = float(array.min()) if spec.source_low is None else spec.source_low
    high = float(array.max()) if spec.source_high is None else spec.source_high
    scale = (spec.high - spec.low) / max(high - low, _TINY)
    ends = (low, high) if spec.clip else (None, None)
    return Line(low=ends[0], high=ends[1], shift=low, scale=scale, offset=spec.low)


def _moments(array: Array, nonzero: bool) -> tuple[float, float]:
    """Mean and standard deviation. Two passes: sums of squares lose digits far from zero."""
    count, total = 0, 0.0
    for plane in array:
        count += int(np.count_nonzero(plane)) if nonzero else plane.size
        total += float(plane.sum(dtype=np.float64))
    if count == 0:
        return 0.0, 1.0
    mean = total / count
    squares = 0.0
    for plane in array:
        values = (plane[plane != 0] if nonzero else plane).astype(np.float64)
        squares += float(np.square(values - mean).sum())
    return mean, float(np.sqrt(squares / count))


def percentiles(array: Array, at: tuple[float, float]) -> tuple[float, float]:
    """Linear between ranks in float64, as numpy's, but without its copy of the array; NaN when there is a NaN."""
    if array.dtype.kind == "f" and any(np.isnan(plane).any() for plane in array):
        return math.nan, math.nan
    places = [q / 100 * (array.size - 1) for q in at]
    values = ordered(array, [end for place in places for end in (math.floor(place), math.ceil(place))])
    low, high = (_between(values[2 * n], values[2 * n + 1], place % 1) for n, place in enumerate(places))
    return low, high


def _between(lower: float, upper: float, part: float) -> float:
    """Weighted, not stepped from `lower`: the difference of two extremes is not finite."""
    return lower if lower == upper else (1 - part) * lower + part * upper
