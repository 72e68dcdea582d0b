"""Between the source's voxels and the model's grid, axis by axis, and the linear resampling along them.

All three alignments are affine maps of indices, source = scale * grid + offset (voxel centres at integers):
`half_pixel` matches the outer faces (nnU-Net, PyTorch align_corners=False), `origin` the first voxel's centre and
the exact spacing (MONAI Spacingd), `endpoint` both outer centres (scipy zoom). A negative scale is a flip.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from worker.contract import Array, Geometry
from worker.volumes.orient import Orientation
from worker.volumes.settings import Align, Grid, ShapeGrid, SpacingGrid

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AxisMap:
    """One axis of `source` voxels and the same stretch of space as `grid` voxels."""

    source: int
    grid: int
    scale: float
    offset: float

    def in_source(self) -> Floats:
        """Where each grid voxel lies among the source's voxels."""
        return np.asarray(self.scale * np.arange(self.grid) + self.offset, np.float64)

    def in_grid(self) -> Floats:
        """Where each source voxel lies among the grid's."""
        return np.asarray((np.arange(self.source) - self.offset) / self.scale, np.float64)

    def flipped(self) -> "AxisMap":
        return AxisMap(self.source, self.grid, -self.scale, self.source - 1 - self.offset)


Maps = tuple[AxisMap, AxisMap, AxisMap]


def map_axes(geometry: Geometry, orientation: Orientation, grid: Grid) -> Maps:
    """The maps of the array's axes (z, y, x); the grid runs the model's way along each of them."""
    z, y, x = (_map_axis(axis, geometry, orientation, grid) for axis in range(3))
    return z, y, x


def _map_axis(array_axis: int, geometry: Geometry, orientation: Orientation, grid: Grid) -> AxisMap:
    n = geometry.size[2 - array_axis]
    spacing = geometry.spacing[2 - array_axis]
    tensor_axis = orientation.from_tensor[array_axis]
    if isinstance(grid, ShapeGrid):
        axis_map = _to_count(n, grid.shape[tensor_axis], grid.align)
    elif isinstance(grid, SpacingGrid):
        axis_map = _to_spacing(n, spacing, grid.spacing_mm[tensor_axis], grid.align)
    else:
        axis_map = AxisMap(n, n, 1.0, 0.0)
    return axis_map.flipped() if orientation.flips[array_axis] else axis_map


def _to_count(n: int, m: int, align: Align) -> AxisMap:
    if align == "endpoint":
        return AxisMap(n, m, (n - 1) / (m - 1), 0.0) if min(n, m) > 1 else AxisMap(n, m, n / m, (n / m - 1) / 2)
    scale = n / m
    return AxisMap(n, m, scale, (scale - 1) / 2 if align == "half_pixel" else 0.0)


def _to_spacing(n: int, spacing: float, target: float, align: Align) -> AxisMap:
    if align == "origin":
        return AxisMap(n, max(1, round((n - 1) * spacing / target + 1)), target / spacing, 0.0)
    return _to_count(n, max(1, round(n * spacing / target)), align)


def brackets(coordinates: Floats, n: int) -> tuple[Ints, npt.NDArray[np.float32]]:
    """The lower neighbour of each coordinate and the weight of the upper one, clamped to voxels 0..n-1.

    The lower neighbour is at most n-2, so that both exist (n = 1: both are voxel 0).
    """
    inside = np.clip(coordinates, 0, n - 1)
    low = np.minimum(np.floor(inside), max(n - 2, 0)).astype(np.int64)
    return low, (inside - low).astype(np.float32)


def weights(axis_map: AxisMap, antialias: bool = False) -> sparse.csr_array:
    """The linear interpolation [grid, source] as a sparse matrix, after a Gaussian where that is asked for.

    The Gaussian is scikit-image's for shrinking (sigma = max(0, (n/m - 1)/2), truncated at 4 sigma), with the
    outermost voxel continued beyond the edge.
    """
    low, fraction = brackets(axis_map.in_source(), axis_map.source)
    rows = np.arange(axis_map.grid)
    high = np.minimum(low + 1, axis_map.source - 1)
    matrix = _matrix(
        np.concatenate([1 - fraction, fraction]),
        np.concatenate([rows, rows]),
        np.concatenate([low, high]),
        (axis_map.grid, axis_map.source),
    )
    sigma = max(0.0, (axis_map.source / axis_map.grid - 1) / 2)
    if antialias and sigma > 0:
        matrix = sparse.csr_array(matrix @ _gaussian(axis_map.source, sigma))
    return matrix


def _gaussian(n: int, sigma: float) -> sparse.csr_array:
    radius = int(4 * sigma + 0.5)
    taps = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (taps / sigma) ** 2)
    rows = np.repeat(np.arange(n), len(taps))
    columns = np.clip(rows + np.tile(taps, n), 0, n - 1)
    return _matrix(np.tile(kernel / kernel.sum(), n), rows, columns, (n, n))


def _matrix(values: Array, rows: Array, columns: Array, shape: tuple[int, int]) -> sparse.csr_array:
    matrix = sparse.csr_array((values.astype(np.float32), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def resample(
    array: Array,
    maps: Maps,
    *,
    out: Array | None = None,
    antialias: bool = False,
    prepare: Callable[[Array], Array] = lambda planes: planes,
    check: Callable[[], None] = lambda: None,
) -> Array:
    """The array [z, y, x] on the grid, float32, axes still in the array's order; in `out` when that is given.

    Works plane by plane, so that no more than a few source planes are ever float. `prepare` may change those
    (float32, in place or not) before they are interpolated; `check` is called once per plane.
    """
    along_z, along_y, along_x = (weights(axis_map, antialias) for axis_map in maps)
    if out is None:
        out = np.empty((maps[0].grid, maps[1].grid, maps[2].grid), dtype=np.float32)
    for k in range(maps[0].grid):
        check()
        span = slice(along_z.indptr[k], along_z.indptr[k + 1])
        plane = np.zeros(array.shape[1:], dtype=np.float32)
        for source, weight in zip(along_z.indices[span], along_z.data[span], strict=True):
            plane += weight * prepare(array[source].astype(np.float32))
        out[k] = (along_x @ (along_y @ plane).T).T
    return out
