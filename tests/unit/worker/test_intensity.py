"""Normalisation schemes against their formulas."""

import tracemalloc

import numpy as np
import pytest

from worker.contract import Array
from worker.volumes.intensity import fit, percentiles
from worker.volumes.ranks import ordered
from worker.volumes.settings import CtScore, DivideByMax, Intensity, Percentile, Range, Unchanged, ZScore

DTYPES = ["u1", "i1", "u2", "i2", ">i2", "u4", "i4", "u8", "i8", "f2", "f4", ">f4", "f8"]
RANDOM = np.random.default_rng(3)
CT = RANDOM.integers(-1024, 2000, (6, 7, 8)).astype(np.int16)


def normalised(array: Array, spec: Intensity) -> Array:
    line = fit(array, spec)
    return line.apply(line.clip(array.astype(np.float32)))


def test_none_changes_nothing() -> None:
    assert np.array_equal(normalised(CT, Unchanged(method="none")), CT)


def test_max_divides_by_the_greatest() -> None:
    assert normalised(CT, DivideByMax(method="max")) == pytest.approx(CT / CT.max(), rel=1e-5)


def test_max_of_a_volume_without_positive_voxels_changes_nothing() -> None:
    array = np.full((2, 2, 2), -5, np.int16)
    assert np.array_equal(normalised(array, DivideByMax(method="max")), array)


def test_zscore_has_mean_zero_and_spread_one() -> None:
    result = normalised(CT, ZScore(method="zscore"))
    assert result == pytest.approx((CT - CT.mean()) / CT.std(), abs=1e-4)


def test_zscore_of_nonzero_voxels_leaves_zeros_alone() -> None:
    array = np.where(RANDOM.random(CT.shape) < 0.5, 0, CT).astype(np.int16)
    inside = array != 0
    result = normalised(array, ZScore(method="zscore", nonzero=True))
    assert (result[~inside] == 0).all()
    assert result[inside] == pytest.approx((array[inside] - array[inside].mean()) / array[inside].std(), abs=1e-4)


def test_zscore_of_a_flat_volume_is_finite() -> None:
    assert np.isfinite(normalised(np.full((2, 2, 2), 7, np.int16), ZScore(method="zscore"))).all()


def test_ct_clips_before_it_scales() -> None:
    spec = CtScore(method="ct", low=-160, high=240, mean=40, std=50)
    assert normalised(CT, spec) == pytest.approx((np.clip(CT, -160, 240) - 40) / 50, abs=1e-4)


def test_percentile_goes_from_zero_to_one() -> None:
    low, high = np.percentile(CT, (5, 95))
    result = normalised(CT, Percentile(method="percentile", low=5, high=95))
    assert result == pytest.approx((np.clip(CT, low, high) - low) / (high - low), abs=1e-5)


@pytest.mark.parametrize("clip", [True, False])
def test_range_is_the_line_between_two_ranges(clip: bool) -> None:
    spec = Range(method="range", source_low=-57, source_high=164, low=-1, high=1, clip=clip)
    expected = (CT - -57) / (164 + 57) * 2 - 1
    assert normalised(CT, spec) == pytest.approx(np.clip(expected, -1, 1) if clip else expected, abs=1e-4)


def test_range_without_ends_is_min_to_max() -> None:
    result = normalised(CT, Range(method="range"))
    assert (result.min(), result.max()) == pytest.approx((0, 1), abs=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("at", [(0.0, 100.0), (0.5, 99.5), (33.3, 66.6)])
def test_counted_percentiles_equal_sorted_ones(dtype: str, at: tuple[float, float]) -> None:
    array = RANDOM.integers(0, 100, (5, 6, 7)).astype(dtype)
    assert percentiles(array, at) == pytest.approx(tuple(np.percentile(array, at)))


@pytest.mark.parametrize("dtype", ["i2", "i4", "i8", "f2", "f4", "f8"])
def test_ranks_of_values_of_both_signs_are_exact(dtype: str) -> None:
    array = (RANDOM.normal(size=(5, 6, 7)) * 10_000).astype(dtype)
    assert ordered(array, list(range(array.size))) == np.sort(array, axis=None).astype(float).tolist()


def test_percentiles_of_float_extremes_are_finite() -> None:
    array = np.where(np.arange(60).reshape(3, 4, 5) % 2, 1.7e308, -1.7e308)
    assert np.isfinite(percentiles(array, (0.5, 50))).all()


def test_percentiles_of_a_volume_with_nan_are_nan() -> None:
    array = np.ones((2, 2, 2), np.float32)
    array[1, 1, 1] = np.nan
    assert np.isnan(percentiles(array, (1, 99))).all()


def test_percentiles_hold_no_copy_of_the_volume() -> None:
    array = RANDOM.normal(size=(64, 128, 128)).astype(np.float32)
    tracemalloc.start()
    try:
        percentiles(array, (0.5, 99.5))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes
