"""Overlapping windows become one volume: weights, and a slab that holds only the planes still being added to."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from worker.contract import Array
from worker.volumes.windows import Layout, Triple

Weights = npt.NDArray[np.float32]


def constant(window: Triple) -> Weights:
    return np.ones(window, dtype=np.float32)


def gaussian_monai(window: Triple) -> Weights:
    """exp(-x²/2σ²) about the middle, σ = window/8, not below a thousandth (MONAI compute_importance_map)."""
    axes = []
    for size in window:
        x = np.arange(size) - (size - 1) / 2
        axes.append(np.exp(-0.5 * np.square(x / (0.125 * size))).astype(np.float32))
    weights = _outer(axes)
    return np.maximum(weights, max(float(weights.min()), 1e-3))


def gaussian_nnunet(window: Triple) -> Weights:
    """A delta at window//2 after a Gaussian filter of σ = window/8, greatest 10, no zeros (nnU-Net v2).

    nnU-Net keeps these in half precision; we do not, and its zeros there are tiny positive numbers here.
    """
    axes = []
    for size in window:
        delta = np.zeros(size)
        delta[size // 2] = 1
        axes.append(gaussian_filter1d(delta, size / 8, mode="constant"))
    weights = _outer(axes)
    weights *= 10 / weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    return weights


def _outer(axes: list[Array]) -> Weights:
    z, y, x = axes
    return (z[:, None, None] * y[:, None] * x).astype(np.float32)


BLENDS = {"constant": constant, "gaussian_monai": gaussian_monai, "gaussian_nnunet": gaussian_nnunet}


class Slab:
    """Weighted sums of scores for as many planes as one window is deep, float32.

    Memory: (channels + 1) * window[0] * grid[1] * grid[2] * 4 bytes, however many planes the grid has.
    """

    def __init__(self, layout: Layout, channels: int, weights: Weights, zeros: Callable[..., Array] = np.zeros) -> None:
        depth, rows, columns = layout.window[0], layout.grid[1], layout.grid[2]
        self._weights = weights
        self._sums = zeros((channels, depth, rows, columns), np.float32)
        self._totals = zeros((depth, rows, columns), np.float32)
        self._first = 0

    def add(self, start: Triple, scores: Array) -> None:
        """`scores` is [channels, z, y, x] of one window; `start` must not lie in planes already taken."""
        z, y, x = start
        depth, rows, columns = self._weights.shape
        where = (slice(z - self._first, z - self._first + depth), slice(y, y + rows), slice(x, x + columns))
        for sums, channel in zip(self._sums, scores, strict=True):
            sums[where] += self._weights * channel
        self._totals[where] += self._weights

    def take(self, finished: int) -> Iterator[Array]:
        """The averaged planes [channels, y, x] from where the last call ended up to `finished`; they leave the slab."""
        count = finished - self._first
        for k in range(count):
            yield self._sums[:, k] / self._totals[k]
        keep = self._totals.shape[0] - count
        for k in range(keep):
            self._sums[:, k] = self._sums[:, k + count]
            self._totals[k] = self._totals[k + count]
        self._sums[:, keep:] = 0
        self._totals[keep:] = 0
        self._first = finished
