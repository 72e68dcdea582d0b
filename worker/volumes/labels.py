"""Brings decisions back to the source's voxels while the grid's planes arrive one by one.

Linear upsampling is exact and still cheap: interpolation is a convex combination, so where all eight neighbours on
the grid have the same label the result has it too. Only the few voxels between different labels (3-5 % on real
masks) are interpolated, and no more than two planes of scores are held.
"""

import numpy as np

from worker.contract import Array
from worker.volumes.decide import Decision, Labels, Only
from worker.volumes.grid import Ints, Maps, brackets

#: Scores that are interpolated at a time: with a hundred labels a whole plane of them would be half a gigabyte.
INTERPOLATED = 1 << 21


class LinearPainter:
    """Interpolates scores linearly at every source voxel and decides there, plane by plane.

    `mask` is the array [z, y, x] to fill; the maps are those of its axes. Coordinates beyond the grid's outer
    voxels take the outer voxels' values.
    """

    def __init__(self, mask: Array, maps: Maps, decide: Decision) -> None:
        self._mask = mask
        # Dropped labels still tell cells apart: between two of them a kept one may win.
        self._decide, self._drop = (decide.decide, decide.drop) if isinstance(decide, Only) else (decide, _keep_all)
        low, self._fraction = brackets(maps[0].in_grid(), maps[0].grid)
        self._planes_above = _groups(low)
        self._single = maps[0].grid == 1
        self._y = brackets(maps[1].in_grid(), maps[1].grid)
        self._x = brackets(maps[2].in_grid(), maps[2].grid)
        self._last_y, self._last_x = maps[1].grid - 1, maps[2].grid - 1
        self._last: Array | None = None
        self._last_labels: Labels | None = None
        self._k = -1

    def feed(self, scores: Array) -> None:
        """The grid's next plane, [channels, y, x]."""
        labels = self._decide(scores)
        if self._last is not None and self._last_labels is not None:
            self._paint_between((self._last, self._last_labels), (scores, labels))
        elif self._single:
            self._k = 0
            self._paint_between((scores, labels), (scores, labels))
        self._k += 1
        self._last, self._last_labels = scores, labels

    def _paint_between(self, lower: tuple[Array, Labels], upper: tuple[Array, Labels]) -> None:
        targets = self._planes_above.get(self._k)
        if targets is None:
            return
        painted, mixed = self._cells(lower[1], upper[1])
        painted = self._drop(painted)
        for z in targets:
            self._mask[z] = painted
        together = max(1, INTERPOLATED // len(lower[0]))
        for start in range(0, mixed.size, together):
            rows, columns = np.divmod(mixed[start : start + together], painted.shape[1])
            corners = self._corners(rows, columns, lower[0].shape[2])
            below, above = (_weighted(scores, corners) for scores, _ in (lower, upper))
            for z in targets:
                fraction = self._fraction[z]
                self._mask[z][rows, columns] = self._drop(self._decide((1 - fraction) * below + fraction * above))

    def _cells(self, lower: Labels, upper: Labels) -> tuple[Labels, Ints]:
        """The label of each source voxel's cell, and the flat indices of those whose corners differ."""
        planes = lower == upper
        rows = planes & _next(planes, 0) & (lower == _next(lower, 0))
        cells = rows & _next(rows, 1) & (lower == _next(lower, 1))
        y, x = self._y[0], self._x[0]
        painted = lower.take(x, axis=1).take(y, axis=0)
        mixed = np.flatnonzero(~cells.take(x, axis=1).take(y, axis=0))
        return painted, mixed

    def _corners(self, rows: Ints, columns: Ints, width: int) -> list[tuple[Ints, Array]]:
        """The four grid voxels around each source voxel: flat indices and bilinear weights."""
        (y, fy), (x, fx) = ((low[where], part[where]) for (low, part), where in ((self._y, rows), (self._x, columns)))
        # An upper neighbour beyond the edge has weight 0; any index inside will do for it.
        down, right = np.minimum(1, self._last_y - y), np.minimum(1, self._last_x - x)
        flat = y * width + x
        return [
            (flat, (1 - fy) * (1 - fx)),
            (flat + right, (1 - fy) * fx),
            (flat + down * width, fy * (1 - fx)),
            (flat + down * width + right, fy * fx),
        ]


def _weighted(scores: Array, corners: list[tuple[Ints, Array]]) -> Array:
    """The interpolated [channels, voxels]."""
    flat = scores.reshape(len(scores), -1)
    (first, weight), *others = corners
    total = flat.take(first, axis=1) * weight
    for index, weight in others:
        total += flat.take(index, axis=1) * weight
    return np.asarray(total)


class NearestPainter:
    """Decides on the grid and gives every source voxel the label of the grid voxel nearest to it."""

    def __init__(self, mask: Array, maps: Maps, decide: Decision) -> None:
        self._mask = mask
        self._decide = decide
        z, self._y, self._x = (np.clip(np.floor(m.in_grid() + 0.5), 0, m.grid - 1).astype(np.int64) for m in maps)
        self._planes_at = _groups(z)
        self._k = 0

    def feed(self, scores: Array) -> None:
        """The grid's next plane, [channels, y, x]."""
        targets = self._planes_at.get(self._k)
        if targets is not None:
            self._mask[targets] = self._decide(scores).take(self._x, axis=1).take(self._y, axis=0)
        self._k += 1


def _keep_all(labels: Labels) -> Labels:
    return labels


def _groups(indices: Ints) -> dict[int, Ints]:
    """value -> where it stands in `indices`."""
    return {int(value): np.flatnonzero(indices == value) for value in np.unique(indices)}


def _next(plane: Array, axis: int) -> Array:
    """The plane moved by one towards smaller indices; the last row or column stays."""
    size = plane.shape[axis]
    return np.asarray(plane.take(np.minimum(np.arange(1, size + 1), size - 1), axis=axis))
