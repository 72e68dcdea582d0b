"""Tidying and measuring masks."""

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
