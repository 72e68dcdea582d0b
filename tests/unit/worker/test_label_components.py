"""Tidying and measuring masks."""

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from tests.support.volumes import positions_of, volume_of
from worker.volumes.components import bounding_box, fill_holes, keep_largest
from worker.volumes.statistics import measure


def test_only_the_largest_component_stays() -> None:
    mask = np.zeros((10, 10, 10), np.uint8)
    mask[1:5, 1:5, 1:5] = 1
    mask[5, 5, 5] = 1  # touches by a corner only: that is no contact
    mask[8:, 8:, 8:] = 1
    mask[0, 0, 0] = 2
    assert keep_largest(mask, 1) == 1 + 8
    assert ndimage.label(mask == 1)[1] == 1
    assert np.count_nonzero(mask == 1) == 64
    assert mask[0, 0, 0] == 2


def test_of_equal_components_the_first_stays() -> None:
    mask = np.zeros((1, 1, 5), np.uint8)
    mask[0, 0, [1, 3]] = 1
    keep_largest(mask, 1)
    assert mask.ravel().tolist() == [0, 1, 0, 0, 0]


def test_holes_are_filled_and_other_labels_kept() -> None:
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[1:8, 1:8, 1:8] = 3
    mask[3:5, 3:5, 3:5] = 0
    mask[3, 3, 3] = 1
    assert fill_holes(mask, 3) == 7
    assert mask[3, 3, 3] == 1
    assert np.count_nonzero(mask == 3) == 7**3 - 1


def test_a_cavity_with_a_way_out_is_no_hole() -> None:
    mask = np.ones((5, 5, 5), np.uint8)
    mask[2, 2, :3] = 0
    assert fill_holes(mask, 1) == 0


@pytest.mark.parametrize("seed", range(12))
def test_filling_agrees_with_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = (ndimage.gaussian_filter(random.normal(size=(12, 13, 14)), 1) > -0.12).astype(np.uint8)
    before, expected = mask.sum(), ndimage.binary_fill_holes(mask)
    assert fill_holes(mask, 1) == expected.sum() - before
    assert np.array_equal(mask == 1, expected)


def test_an_absent_label_changes_nothing() -> None:
    mask = np.zeros((3, 3, 3), np.uint8)
    assert bounding_box(mask, 1) is None
    assert keep_largest(mask, 1) == 0
    assert fill_holes(mask, 1) == 0


def test_statistics_agree_with_their_definitions() -> None:
    random = np.random.default_rng(4)
    volume = volume_of(
        random.integers(-100, 100, (5, 6, 7)).astype(np.int16), "RAS", (10, 5, -8), (0.5, 0.75, 2.0), (11.0, -7.0, 3.0)
    )
    mask = random.integers(0, 3, (5, 6, 7)).astype(np.uint8)
    entries = measure(mask, volume, {1: "one", 2: "two", 9: "absent"})
    assert [entry["name"] for entry in entries] == ["one", "two", "absent"]
    positions = positions_of(volume.geometry)
    for entry in entries[:2]:
        where = mask == entry["value"]
        k, j, i = np.nonzero(where)
        assert entry["voxels"] == where.sum()
        assert entry["volume_ml"] == pytest.approx(where.sum() * 0.5 * 0.75 * 2.0 / 1000, abs=5e-4)
        assert entry["bounding_box"] == {
            "start": [i.min(), j.min(), k.min()],
            "end": [i.max() + 1, j.max() + 1, k.max() + 1],
        }
        assert entry["centroid_mm"] == pytest.approx(positions[:, where].mean(axis=1), abs=1e-3)
        assert entry["mean_intensity"] == pytest.approx(volume.array[where].mean(), abs=1e-3)
    assert entries[2]["voxels"] == 0
    assert entries[2]["centroid_mm"] is None


def test_the_largest_component_is_found_in_six_bytes_per_voxel() -> None:
    mask = np.ones((128, 160, 160), np.uint8)
    mask[50] = 0
    tracemalloc.start()
    try:
        removed = keep_largest(mask, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert removed == 50 * 160 * 160
    assert peak < 6 * mask.size


@pytest.mark.parametrize("seed", range(4))
def test_the_largest_of_very_many_components_stays(seed: int) -> None:
    mask = (np.random.default_rng(seed).random((70, 80, 90)) < 0.2).astype(np.uint8)
    components, count = ndimage.label(mask)
    assert count > 10_000
    largest = components == 1 + np.bincount(components.ravel())[1:].argmax()
    assert keep_largest(mask, 1) == np.count_nonzero(components) - np.count_nonzero(largest)
    assert np.array_equal(mask == 1, largest)


def test_a_high_label_is_measured_as_a_low_one() -> None:
    random = np.random.default_rng(5)
    low = random.integers(0, 3, (4, 5, 6)).astype(np.uint16)
    high = np.choose(low, [0, 60000, 65535]).astype(np.uint16)
    volume = volume_of(random.normal(size=low.shape))
    expected = measure(low, volume, {1: "a", 2: "b"})
    entries = measure(high, volume, {65535: "b", 60000: "a"})
    assert [entry.pop("value") for entry in expected] == [1, 2]
    assert [entry.pop("value") for entry in entries] == [60000, 65535]
    assert entries == expected


def test_measuring_a_high_label_takes_no_memory_per_value() -> None:
    mask = np.zeros((2, 128, 128), np.uint16)
    mask[:, 3, 4] = 60000
    volume = volume_of(mask)
    tracemalloc.start()
    try:
        measure(mask, volume, {60000: "a"})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20, "60000 rows of 128 would be 59 MiB"


def test_voxels_of_no_label_are_not_measured() -> None:
    mask = np.full((2, 2, 2), 9, np.uint8)
    mask[0, 0, 0] = 1
    assert [entry["voxels"] for entry in measure(mask, volume_of(mask), {1: "a", 2: "b"})] == [1, 0]
