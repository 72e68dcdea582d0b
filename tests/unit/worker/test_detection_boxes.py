"""Boxes: suppression against a slow oracle and against torchvision's answers, letterboxes there and back."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.contract import Array, Tensor
from worker.detection.boxes import corners, kept, moved_apart
from worker.detection.families.detr_pixels import edged
from worker.detection.families.letterbox import Letterbox
from worker.detection.families.ultralytics import Ultralytics
from worker.detection.fitting import cornered, letterboxed, planes, stretched
from worker.detection.found import Found, Wanted, found

GOLDENS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "support" / "detection_goldens.json").read_text())
Box = tuple[float, float, float, float]
coordinates = st.integers(0, 40)


@st.composite
def some_boxes(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Boxes on a coarse grid, so that overlaps of just so much happen, with scores that are all different."""
    rows = draw(st.lists(st.tuples(coordinates, coordinates, st.integers(0, 20), st.integers(0, 20)), max_size=25))
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32).reshape(-1, 4)
    order = draw(st.permutations(range(len(rows))))
    classes = np.array(draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows))), np.int64)
    return boxes, (np.array(order, np.float32) + 1) / 64, classes


def overlap(one: Array, other: Array) -> float:
    width = max(0.0, float(min(one[2], other[2]) - max(one[0], other[0])))
    height = max(0.0, float(min(one[3], other[3]) - max(one[1], other[1])))
    both = sum(float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other))
    return width * height / (both - width * height) if both > width * height else 0.0


def slowly_kept(boxes: Array, scores: Array, iou: float) -> list[int]:
    chosen: list[int] = []
    for row in sorted(range(len(boxes)), key=lambda row: -scores[row]):
        if all(overlap(boxes[row], boxes[better]) <= iou for better in chosen):
            chosen.append(row)
    return chosen


@given(some_boxes(), st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0]))
@settings(max_examples=200, deadline=None)
def test_the_kept_boxes_are_those_of_a_slow_oracle(case: tuple[Array, Array, Array], iou: float) -> None:
    boxes, scores, _ = case
    assert kept(boxes, scores, iou, most=100).tolist() == slowly_kept(boxes, scores, iou)


@pytest.mark.parametrize("most", [7, 300, 9999])
def test_many_boxes_are_kept_as_few_are(most: int) -> None:
    random = np.random.default_rng(3)
    corner = random.integers(0, 200, (900, 2))
    boxes = np.concatenate([corner, corner + random.integers(1, 40, (900, 2))], axis=1).astype(np.float32)
    scores = random.permutation(900).astype(np.float32)
    oracle = slowly_kept(boxes, scores, 0.3)
    assert len(oracle) > 256
    assert kept(boxes, scores, 0.3, most=most).tolist() == oracle[:most]


@given(some_boxes())
@settings(max_examples=100, deadline=None)
def test_boxes_of_other_classes_never_drop_each_other(case: tuple[Array, Array, Array]) -> None:
    boxes, scores, classes = case
    together = kept(moved_apart(boxes, classes), scores, 0.5, most=100)
    apart = [
        row
        for one in range(3)
        for row in np.flatnonzero(classes == one)[kept(boxes[classes == one], scores[classes == one], 0.5, most=100)]
    ]
    assert sorted(together.tolist()) == sorted(apart)


@given(some_boxes(), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_no_more_than_wanted_are_the_first_of_all(case: tuple[Array, Array, Array], most: int) -> None:
    boxes, scores, _ = case
    assert kept(boxes, scores, 0.5, most=most).tolist() == kept(boxes, scores, 0.5, most=100).tolist()[:most]


def test_a_box_that_overlaps_by_just_the_threshold_goes_only_where_the_library_says_so() -> None:
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    assert kept(boxes, scores, 0.5, most=9).tolist() == [0, 1]
    assert kept(boxes, scores, 0.5, most=9, touching=True).tolist() == [0]


def test_pixels_counted_from_edge_to_edge_overlap_more() -> None:
    boxes = np.array([[0, 0, 3, 0], [0, 0, 1, 0]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    # Without a pixel more they have no area at all.
    assert kept(boxes, scores, 0.4, most=9).tolist() == [0, 1]
    assert kept(boxes, scores, 0.4, most=9, pixel=1.0).tolist() == [0]


def chance(seed: int, places: int, classes: int, side: int) -> Array:
    """As benchmarks/golden_detection.py draws them."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0, side, (2, places))
    sides = random.uniform(side / 16, side / 3, (2, places))
    scores = random.uniform(0, 1, (classes, places)) ** 4
    return np.concatenate([centres, sides, scores]).astype(np.float32)


@pytest.mark.parametrize("golden", GOLDENS["suppression"], ids=lambda golden: str(golden["seed"]))
def test_boxes_are_those_of_ultralytics_to_the_last_bit(golden: dict[str, Any]) -> None:
    told = golden["options"]
    wanted = Wanted(
        told["conf_thres"],
        told["iou_thres"],
        told.get("max_det", 300),
        frozenset(told["classes"]) if "classes" in told else None,
        told.get("agnostic", False),
    )
    image = Tensor("images", np.dtype(np.float32), (1, 3, 64, 64))
    family = Ultralytics(Letterbox(image, (64, 64), None), "output0", 4)
    frame = letterboxed(np.zeros((golden["size"][1], golden["size"][0], 3), np.uint8), (64, 64)).frame
    answer = family.found({"output0": chance(golden["seed"], 84, 4, 64)[None]}, frame, wanted)
    answer = answer.clipped(tuple(golden["size"]))
    rows = np.array(golden["rows"], np.float32).reshape(-1, 6)
    np.testing.assert_array_equal(answer.boxes, rows[:, :4])
    np.testing.assert_array_equal(answer.scores, rows[:, 4])
    np.testing.assert_array_equal(answer.classes, rows[:, 5])
    assert len(rows) > 1


@pytest.mark.parametrize(
    "golden", GOLDENS["letterbox"], ids=lambda golden: "x".join(map(str, golden["size"])) + "-free" * golden["free"]
)
def test_letterboxes_have_the_pixels_of_ultralytics(golden: dict[str, Any]) -> None:
    width, height = golden["size"]
    picture = np.random.default_rng(width + height).integers(0, 256, (height, width, 3), np.uint8)
    fitted = letterboxed(picture, (320, 320), stride=32 if golden["free"] else None)
    assert list(fitted.pixels.shape) == golden["shape"]
    assert hashlib.sha256(np.ascontiguousarray(fitted.pixels).tobytes()).hexdigest() == golden["sha256"]


@pytest.mark.parametrize("golden", GOLDENS["edges"], ids=lambda golden: "x".join(map(str, golden["size"])))
def test_short_and_long_edges_are_those_of_transformers(golden: dict[str, Any]) -> None:
    assert list(edged(tuple(golden["size"]), 800, 1333)) == golden["resized"]
    assert list(edged(tuple(golden["size"]), 800, 1333, 16)) == golden["patches"]


@given(
    st.integers(1, 900), st.integers(1, 900), st.sampled_from([(64, 64), (320, 192), (640, 640)]), st.booleans(),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=4),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_boxes_come_back_from_a_letterbox_to_where_they_were(
    width: int, height: int, size: tuple[int, int], free: bool, shares: list[Box]
) -> None:
    fitted = letterboxed(np.zeros((height, width, 3), np.uint8), size, stride=32 if free else None)
    frame = fitted.frame
    boxes = np.array(shares) * [width, height, width, height]
    inside = boxes.reshape(-1, 2, 2) * frame.gain + frame.offset
    assert fitted.pixels.shape[:2] == frame.size[::-1]
    assert (inside >= -1e-6).all()
    assert (inside <= np.array(frame.size) + 1e-6).all()
    back = frame.back(found(inside.reshape(-1, 4), np.ones(len(boxes)), np.zeros(len(boxes))))
    np.testing.assert_allclose(back.boxes, boxes, atol=2e-4 * max(1.0, max(width, height) / max(size)))


def test_the_smallest_rectangle_is_never_larger_than_the_square() -> None:
    for size in ((810, 1080), (1920, 1080), (640, 640), (500, 100)):
        pixels = letterboxed(np.zeros((size[1], size[0], 3), np.uint8), (640, 640), stride=32).pixels
        assert all(side % 32 == 0 and side <= 640 for side in pixels.shape[:2])
        assert 640 in pixels.shape


def test_yolox_lays_pictures_at_the_top_left_and_rounds_down() -> None:
    fitted = cornered(np.zeros((100, 333, 3), np.uint8), (64, 64))
    assert fitted.pixels[:19, :64].max() == 0
    assert (fitted.pixels[19:] == 114).all()
    assert fitted.frame.gain == (64 / 333, 64 / 333)
    assert fitted.frame.offset == (0, 0)


def test_stretching_has_a_gain_for_each_side() -> None:
    fitted = stretched(np.zeros((100, 50, 3), np.uint8), (64, 32))
    assert fitted.pixels.shape == (32, 64, 3)
    assert fitted.frame.gain == (64 / 50, 32 / 100)


def test_planes_have_colours_first_and_the_graphs_own_type() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    made = planes(pixels, np.dtype(np.float32), 255.0)
    assert made.shape == (1, 3, 2, 3)
    np.testing.assert_array_equal(made[0, 0], (pixels[..., 0] / np.float32(255)).astype(np.float32))
    np.testing.assert_array_equal(planes(pixels, np.dtype(np.uint8), bgr=True)[0, 0], pixels[..., 2])
    assert planes(pixels, np.dtype(np.float16)).dtype == np.float16


def test_equal_scores_keep_the_order_of_the_graph() -> None:
    every = Found(np.zeros((4, 4), np.float32), np.array([0.5, 0.9, 0.5, 0.9], np.float32), np.arange(4))
    assert every.best(3).classes.tolist() == [1, 3, 0]


def test_a_score_must_be_above_the_threshold() -> None:
    every = Found(np.zeros((3, 4), np.float32), np.array([0.5, 0.25, 0.75], np.float32), np.arange(3))
    assert every.meeting(Wanted(0.5, 1, 9)).classes.tolist() == [2]
    assert every.meeting(Wanted(0.0, 1, 9, frozenset({0, 1}))).classes.tolist() == [0, 1]


def test_centres_become_corners() -> None:
    np.testing.assert_array_equal(corners(np.array([[5, 6, 4, 2]], np.float32)), [[3, 5, 7, 7]])
