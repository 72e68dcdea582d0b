"""Grids and resampling against independent formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.support.volumes import volume_of
from worker.volumes.grid import AxisMap, map_axes, resample, weights
from worker.volumes.orient import orient
from worker.volumes.settings import Align, Grid, ShapeGrid, SourceGrid, SpacingGrid

ALIGNS: list[Align] = ["half_pixel", "origin", "endpoint"]


def maps_for(shape: tuple[int, int, int], grid: Grid, code: str = "LPS", axes: str = "zyx", **kwargs: object):  # type: ignore[no-untyped-def]
    volume = volume_of(np.zeros(shape), code, **kwargs)  # type: ignore[arg-type]
    return map_axes(volume.geometry, orient(volume.geometry.direction, axes), grid)


@pytest.mark.parametrize(
    ("align", "count", "first", "last"),
    [
        # 10 voxels of 2 mm to 1.5 mm: faces match, round(10 * 2 / 1.5) = 13 voxels.
        ("half_pixel", 13, 0.5 * 10 / 13 - 0.5, 12.5 * 10 / 13 - 0.5),
        # MONAI: round(9 * 2 / 1.5 + 1) = 13, and exactly 1.5 mm from the first voxel on.
        ("origin", 13, 0.0, 12 * 0.75),
        # scipy zoom without grid_mode: both outer voxels stay.
        ("endpoint", 13, 0.0, 9.0),
    ],
)
def test_spacing_grids_follow_the_three_tools(align: Align, count: int, first: float, last: float) -> None:
    grid = SpacingGrid(kind="spacing", spacing_mm=(1.5, 1.5, 1.5), align=align)
    z, _, _ = maps_for((10, 4, 4), grid, spacing=(1.0, 1.0, 2.0))
    where = z.in_source()
    assert z.grid == count
    assert (where[0], where[-1]) == pytest.approx((first, last))


@pytest.mark.parametrize("align", ALIGNS)
@pytest.mark.parametrize("flip", [False, True])
def test_going_there_and_back_is_the_same_place(align: Align, flip: bool) -> None:
    (axis, _, _) = maps_for((17, 4, 4), ShapeGrid(kind="shape", shape=(11, 4, 4), align=align))
    axis = axis.flipped() if flip else axis
    inside = axis.in_source()
    assert (inside - axis.offset) / axis.scale == pytest.approx(np.arange(11))
    assert axis.scale * axis.in_grid() + axis.offset == pytest.approx(np.arange(17))


def test_a_source_grid_only_reorders() -> None:
    array = np.random.default_rng(1).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    maps = maps_for(array.shape, SourceGrid(kind="source"), code="LAI", axes="LPS")
    assert np.array_equal(resample(array, maps), array[::-1, ::-1, :])


@settings(max_examples=40, deadline=None)
@given(
    source=st.tuples(*[st.integers(2, 9)] * 3),
    target=st.tuples(*[st.integers(1, 9)] * 3),
    align=st.sampled_from(ALIGNS),
    flips=st.tuples(*[st.booleans()] * 3),
    seed=st.integers(0, 99),
)
def test_resampling_is_linear_interpolation_at_the_mapped_places(
    source: tuple[int, int, int],
    target: tuple[int, int, int],
    align: Align,
    flips: tuple[bool, bool, bool],
    seed: int,
) -> None:
    array = np.random.default_rng(seed).normal(size=source).astype(np.float32)
    straight = maps_for(source, ShapeGrid(kind="shape", shape=target, align=align))
    z, y, x = (axis.flipped() if flip else axis for axis, flip in zip(straight, flips, strict=True))
    expected = ndimage.map_coordinates(
        array.astype(np.float64), np.meshgrid(z.in_source(), y.in_source(), x.in_source(), indexing="ij"), order=1,
        mode="nearest",
    )  # fmt: skip
    assert resample(array, (z, y, x)) == pytest.approx(expected, abs=1e-5)


def test_antialiasing_is_a_gaussian_before_the_interpolation() -> None:
    array = np.random.default_rng(2).normal(size=(12, 4, 4)).astype(np.float32)
    maps = maps_for(array.shape, ShapeGrid(kind="shape", shape=(5, 4, 4)))
    smooth = ndimage.gaussian_filter1d(array.astype(np.float64), (12 / 5 - 1) / 2, axis=0, mode="nearest", truncate=4)
    expected = resample(smooth, maps)
    assert resample(array, maps, antialias=True) == pytest.approx(expected, abs=1e-5)


def test_growing_is_never_antialiased() -> None:
    axis = AxisMap(5, 9, 5 / 9, (5 / 9 - 1) / 2)
    assert (weights(axis, antialias=True) != weights(axis)).nnz == 0


def test_a_constant_stays_constant() -> None:
    maps = maps_for((9, 7, 5), ShapeGrid(kind="shape", shape=(4, 8, 3), antialias=True))
    assert resample(np.full((9, 7, 5), -1000, np.int16), maps, antialias=True) == pytest.approx(-1000, rel=1e-5)


def test_the_preparation_sees_source_values() -> None:
    maps = maps_for((2, 2, 2), ShapeGrid(kind="shape", shape=(1, 1, 1)))
    array = np.array([[[0, 0], [0, 0]], [[1000, 1000], [1000, 1000]]], dtype=np.int16)
    clipped = resample(array, maps, prepare=lambda plane: np.clip(plane, 0, 100))
    assert clipped.item() == pytest.approx(50)
