"""Tiles, merging and fusion: equal to sahi and ensemble-boxes on boxes of chance, and what must hold whatever comes."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.pictures import noise
from worker.contract import Array
from worker.detection.found import Found, found
from worker.detection.fusion import fused
from worker.detection.merging import Merge, Merging, Metric
from worker.detection.params import DetectionParams
from worker.detection.views import View
from worker.pictures import on_disk
from worker.pictures.filters import Filter
from worker.pictures.resize import linear, pillow
from worker.pictures.tiling import Grid, Tile

GOLDENS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "support" / "tile_goldens.json").read_text())
NAMES: dict[str, Merge] = {"NMS": "nms", "NMM": "nmm", "GREEDYNMM": "greedy_nmm"}
SIZE = (400, 300)


def chance(seed: int, count: int, *, coarse: bool = False) -> Found:
    """As benchmarks/golden_tiles.py draws them."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 1, (count, 2)) * (340, 240)
    boxes = np.concatenate([corner, corner + random.uniform(4, 60, (count, 2))], axis=1)
    scores = random.uniform(0.1, 1, count)
    if coarse:
        boxes, scores = np.round(boxes / 20) * 20 + [0, 0, 20, 20], np.round(scores, 1)
        boxes = np.minimum(boxes, [400, 300, 400, 300])
    return found(boxes, scores, random.integers(0, 3, count))


def rows_of(every: Found) -> Array:
    """float64 [n, 6], in an order of their own: libraries leave it open which of two equal scores comes first."""
    rows = np.concatenate([every.boxes, every.scores[:, None], every.classes[:, None]], axis=1).astype(np.float64)
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("golden", GOLDENS["grids"], ids=lambda golden: "-".join(map(str, golden["size"])))
def test_tiles_lie_where_sahi_puts_them(golden: dict[str, Any]) -> None:
    grid = Grid(tuple(golden["size"]), tuple(golden["tile"]), golden["overlap"])
    assert [[tile.left, tile.top, tile.right, tile.bottom] for tile in grid] == golden["tiles"]
    assert grid.count == len(golden["tiles"])


@given(st.integers(1, 400), st.integers(1, 400), st.integers(16, 200), st.integers(16, 200), st.floats(0, 0.95))
@settings(max_examples=100, deadline=None)
def test_tiles_cover_every_pixel_and_lie_in_the_picture(
    width: int, height: int, across: int, down: int, overlap: float
) -> None:
    grid = Grid((width, height), (across, down), overlap)
    seen = np.zeros((height, width), bool)
    tiles = list(grid)
    for tile in tiles:
        assert 0 <= tile.left < tile.right <= width
        assert 0 <= tile.top < tile.bottom <= height
        assert (tile.right - tile.left, tile.bottom - tile.top) == (min(across, width), min(down, height))
        seen[tile.top : tile.bottom, tile.left : tile.right] = True
    assert seen.all()
    assert len(set(tiles)) == len(tiles) == grid.count


@pytest.mark.parametrize(
    "golden", GOLDENS["merging"], ids=lambda golden: "-".join(map(str, [golden["seed"], *golden["asked"].values()]))
)
def test_boxes_of_tiles_are_merged_as_sahi_merges_them(golden: dict[str, Any]) -> None:
    asked = golden["asked"]
    metric: Metric = "iou" if asked["metric"] == "IOU" else "ios"
    merging = Merging(NAMES[asked["merge"]], metric, asked["threshold"], asked["agnostic"])
    merged = merging.of(chance(golden["seed"], golden["count"], coarse=golden["coarse"]))
    rows = np.array(golden["rows"], np.float32)
    np.testing.assert_array_equal(rows_of(merged), rows_of(found(rows[:, :4], rows[:, 4], rows[:, 5])))
    assert len(rows) < golden["count"]
    assert (np.diff(merged.scores) <= 0).all()


@given(
    st.integers(0, 20), st.integers(1, 40), st.sampled_from(get_args(Merge)), st.sampled_from(get_args(Metric)),
    st.floats(0.05, 1), st.booleans(), st.randoms(use_true_random=False),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_merging_does_not_depend_on_the_order_of_boxes(
    seed: int, count: int, merge: Merge, metric: Metric, threshold: float, agnostic: bool, random: Any
) -> None:
    every = chance(seed, count)
    order = list(range(count))
    random.shuffle(order)
    merging = Merging(merge, metric, threshold, agnostic)
    one, other = merging.of(every), merging.of(every.only(np.array(order)))
    if merge == "nmm":
        # Which box takes another in may depend on it, as in sahi; which ones stay does not.
        np.testing.assert_array_equal(one.scores, other.scores)
    else:
        np.testing.assert_array_equal(rows_of(one), rows_of(other))
    assert (one.boxes.min(axis=0) >= every.boxes.min(axis=0)).all()
    assert (one.boxes.max(axis=0) <= every.boxes.max(axis=0)).all()


def test_merged_boxes_no_longer_match_where_the_best_one_stays() -> None:
    merged = Merging("nms", "iou", 0.3, False).of(chance(5, 300))
    for one in range(len(merged)):
        alone = merged.only(np.flatnonzero(merged.classes == merged.classes[one]))
        assert len(Merging("nms", "iou", 0.3, False).of(alone)) == len(alone)


def test_nothing_merges_to_nothing_and_boxes_without_an_area_are_dropped() -> None:
    merging = Merging("greedy_nmm", "ios", 0.5, False)
    assert len(merging.of(chance(1, 0))) == 0
    flat = found(np.array([[3, 3, 3, 9], [0, 0, 4, 4]]), np.array([0.9, 0.8]), np.array([0, 0]))
    assert merging.of(flat).boxes.tolist() == [[0, 0, 4, 4]]


def test_a_merged_box_keeps_the_points_of_the_best_one() -> None:
    every = found(
        np.array([[0, 0, 8, 8], [4, 0, 12, 8]]), np.array([0.5, 0.9]), np.array([0, 0]), np.array([[[1, 1]], [[7, 7]]])
    )
    merged = Merging("greedy_nmm", "ios", 0.5, False).of(every)
    assert merged.boxes.tolist() == [[0, 0, 12, 8]]
    assert merged.landmarks is not None
    assert merged.landmarks.tolist() == [[[7, 7]]]


@pytest.mark.parametrize("golden", GOLDENS["fusion"], ids=lambda golden: str(golden["seed"]))
def test_boxes_of_several_looks_are_fused_as_ensemble_boxes_does(golden: dict[str, Any]) -> None:
    looks = [chance(100 * golden["seed"] + view, 40) for view in range(golden["views"])]
    made = fused(looks, SIZE, golden["iou"], golden["skip"])
    rows = np.array(golden["rows"])
    np.testing.assert_allclose(made.boxes / [*SIZE, *SIZE], rows[:, :4], atol=1e-6)
    np.testing.assert_allclose(made.scores, rows[:, 4], atol=1e-6)
    np.testing.assert_array_equal(made.classes, rows[:, 5])


def test_what_only_one_look_has_seen_counts_less() -> None:
    one = found(np.array([[10, 10, 50, 50]]), np.array([0.8]), np.array([0]))
    none = found(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    assert fused([one, none], SIZE, 0.5, 0).scores.tolist() == pytest.approx([0.4])
    assert fused([one, one], SIZE, 0.5, 0).scores.tolist() == pytest.approx([0.8])
    assert len(fused([none, none], SIZE, 0.5, 0)) == 0


def test_points_are_fused_as_boxes_are() -> None:
    boxes = np.array([[0, 0, 40, 40]])
    looks = [
        found(boxes, np.array([score]), np.array([0]), np.array([[[x, 0]]])) for score, x in ((0.6, 10), (0.2, 30))
    ]
    made = fused(looks, SIZE, 0.5, 0)
    assert made.landmarks is not None
    np.testing.assert_allclose(made.landmarks, [[[15, 0]]], atol=1e-4)
    nothing = looks[0].only(np.zeros(0, np.int64))
    assert len(fused([looks[0], nothing], SIZE, 0.5, 0)) == 1
    assert len(fused([nothing, nothing], SIZE, 0.5, 0)) == 0


@given(
    st.integers(1, 60), st.integers(1, 60), st.booleans(), st.sampled_from([1.0, 0.83, 0.5, 0.25]),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=3),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_boxes_come_back_from_a_view_to_where_they_were(
    width: int, height: int, mirrored: bool, scale: float, shares: list[tuple[float, float, float, float]]
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    view = View(mirrored, scale)
    shown = view.of(picture)
    # Where each pixel is shown says where a box is.
    marked = view.of(np.full((height, width, 3), 7, np.uint8))[..., 0] == 7
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    part = shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.testing.assert_array_equal(part[:, ::-1] if mirrored else part, picture)
    corners = np.sort(np.array(shares).reshape(-1, 2, 2) * [width, height], axis=1)
    there = corners + np.array([columns[0], rows[0]])
    if mirrored:
        there[..., 0] = columns[-1] + 1 - corners[:, ::-1, 0]
    back = view.back(found(there.reshape(-1, 4), np.ones(len(there)), np.zeros(len(there))), (width, height))
    np.testing.assert_allclose(back.boxes, corners.reshape(-1, 4), atol=1e-4)


def test_in_a_mirror_the_left_eye_is_the_right_one() -> None:
    face = found(np.array([[0, 0, 10, 10]]), np.ones(1), np.zeros(1), np.array([[[2, 3], [8, 3], [5, 5]]]))
    back = View(mirrored=True).back(face, (20, 10), (1, 0, 2))
    assert back.landmarks is not None
    assert back.landmarks.tolist() == [[[12, 3], [18, 3], [15, 5]]]


@pytest.fixture
def lying() -> Iterator[tuple[Array, Array]]:
    """A picture, and the same on disk."""
    picture = noise(97, 211)
    with tempfile.TemporaryFile() as file:
        file.write(picture.tobytes())
        file.flush()
        yield picture, on_disk.mapped(file.fileno(), 97, 211)


@pytest.mark.parametrize("kind", get_args(Filter))
@pytest.mark.parametrize("size", [(40, 40), (97, 30), (30, 211), (200, 300)])
def test_a_picture_on_disk_is_resized_as_any_other(
    lying: tuple[Array, Array], monkeypatch: pytest.MonkeyPatch, kind: Filter, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(on_disk, "BAND_BYTES", 97 * 3 * 10)
    whole, mapped = lying
    assert on_disk.is_on_disk(mapped)
    # Pillow may do columns first, and OpenCV may differ where a picture grows: both round elsewhere.
    np.testing.assert_allclose(pillow(mapped, size, kind).astype(int), pillow(whole, size, kind), atol=2)
    np.testing.assert_allclose(linear(mapped, size).astype(int), linear(whole, size), atol=1)


def test_parts_of_a_picture_on_disk_are_copies_in_memory(lying: tuple[Array, Array]) -> None:
    whole, mapped = lying
    part = Tile(10, 20, 60, 90).of(mapped)
    np.testing.assert_array_equal(part, whole[20:90, 10:60])
    assert not on_disk.is_on_disk(part)
    assert part.flags.c_contiguous
    assert on_disk.is_on_disk(mapped[:, ::-1])


@pytest.mark.parametrize(
    "params",
    [
        {"tiles": {"overlap": 1}},
        {"tiles": {"overlap": -0.1}},
        {"tiles": {"size": 0}},
        {"tiles": {"size": [640]}},
        {"tiles": {"merge": "soft"}},
        {"tiles": {"threshold": 0}},
        {"tiles": True},
        {"augment": {"flip": False}},
        {"augment": {"scales": [1, 1]}},
        {"augment": {"scales": [1.5]}},
        {"augment": {"scales": []}},
    ],
)
def test_ways_to_look_that_cannot_be_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DetectionParams.model_validate(params)
