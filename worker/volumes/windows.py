"""Where the windows lie: starts along an axis, padding of small grids, and layers in the order of the slab."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from worker.contract import Array

Triple = tuple[int, int, int]


def even_starts(n: int, window: int, overlap: float) -> list[int]:
    """Spread evenly from 0 to n - window: nnU-Net's rule, with step = 1 - overlap."""
    if n <= window:
        return [0]
    count = math.ceil((n - window) / (window * (1 - overlap))) + 1
    spacing = (n - window) / (count - 1)
    # Windows of a few voxels can round to the same start.
    return list(dict.fromkeys(round(spacing * i) for i in range(count)))


def fixed_starts(n: int, window: int, overlap: float) -> list[int]:
    """A fixed interval, the last window shifted back inside: MONAI's rule."""
    if n <= window:
        return [0]
    interval = max(int(window * (1 - overlap)), 1)
    count = math.ceil((n - window) / interval) + 1
    return [min(i * interval, n - window) for i in range(count)]


STARTS: dict[str, Callable[[int, int, float], list[int]]] = {"even": even_starts, "fixed": fixed_starts}


@dataclass(frozen=True)
class Layer:
    """All windows that begin in the same plane."""

    start: int
    windows: list[Triple]
    #: Planes below this are touched by no later window.
    finished: int


@dataclass(frozen=True)
class Layout:
    """The windows over a grid [z, y, x] that was padded to at least one window."""

    grid: Triple
    window: Triple
    starts: tuple[list[int], list[int], list[int]]

    @property
    def count(self) -> int:
        return math.prod(len(starts) for starts in self.starts)

    def layers(self) -> Iterator[Layer]:
        """From the first plane on, so that finished planes can leave the slab."""
        along_z = self.starts[0]
        for start, following in zip(along_z, [*along_z[1:], self.grid[0]], strict=True):
            yield Layer(start, [(start, y, x) for y, x in product(*self.starts[1:])], following)


def lay_out(grid: Triple, window: Triple, overlap: float, rule: str) -> Layout:
    z, y, x = (STARTS[rule](n, size, overlap) for n, size in zip(grid, window, strict=True))
    return Layout(grid, window, (z, y, x))


def padding(grid: Triple, least: Triple) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(before, after) per axis up to `least` voxels, the odd one after, as both reference tools split it."""
    z, y, x = (((max(m - n, 0)) // 2, max(m - n, 0) - max(m - n, 0) // 2) for n, m in zip(grid, least, strict=True))
    return z, y, x


def window_at(grid: Array, start: Triple, window: Triple) -> Array:
    """A view."""
    z, y, x = (slice(at, at + size) for at, size in zip(start, window, strict=True))
    return np.asarray(grid[z, y, x])
