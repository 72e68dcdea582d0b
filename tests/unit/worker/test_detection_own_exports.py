"""Detectors that their own libraries export: the input and the boxes that those make of the same numbers."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.detectors import PLACES, boxes_at, detector, saying, ultralytics_notes
from worker.contract import Array
from worker.detection.detector import Detector
from worker.detection.params import DetectionParams

GOLDENS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "support" / "own_export_goldens.json").read_text())
#: (width, height) of the picture to which boxes come back, and the classes of all but YOLOv7's.
BACK, CLASSES = (300, 171), 5


def chance(seed: int, places: int, classes: int, side: int) -> Array:
    """The numbers of benchmarks/golden_detection.py."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0, side, (2, places))
    sides = random.uniform(side / 16, side / 3, (2, places))
    scores = random.uniform(0, 1, (classes, places)) ** 4
    made: Array = np.concatenate([centres, sides, scores]).astype(np.float32)
    return made


def picture(size: tuple[int, int]) -> Array:
    return np.random.default_rng(sum(size)).integers(0, 256, (size[1], size[0], 3), np.uint8)


def is_fed_as(golden: dict[str, Any], one: Detector) -> None:
    for said in golden["pictures"]:
        pixels = one.family.prepared(picture(said["size"])).feeds["images"][0]
        assert hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest() == said["sha256"], said["size"]


def finds(golden: dict[str, Any], one: Detector, outputs: dict[str, Array]) -> None:
    frame = one.family.prepared(picture(BACK)).frame
    found = one.family.found(outputs, frame, one.wanted(DetectionParams(confidence=0.25), None)).clipped(BACK)
    theirs = sorted(golden["found"], key=lambda row: -row["score"])
    assert found.classes.tolist() == [row["class"] for row in theirs]
    np.testing.assert_allclose(found.scores, [row["score"] for row in theirs], atol=1e-6)
    boxes = np.clip(np.array([row["box"] for row in theirs]).reshape(-1, 2, 2), 0, BACK).reshape(-1, 4)
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
    assert len(theirs) > 10


@pytest.mark.parametrize(
    "golden", GOLDENS["yolo-nas"], ids=lambda golden: "own-data" * golden["own_data"] or "published"
)
def test_yolo_nas_is_fed_and_read_as_super_gradients_does_it(tmp_path: Path, golden: dict[str, Any]) -> None:
    raw = chance(golden["seed"], PLACES, CLASSES, 64)
    boxes = np.concatenate([raw[:2] - raw[2:4] / 2, raw[:2] + raw[2:4] / 2]).T
    said = {"boxes": np.ascontiguousarray(boxes)[None], "scores": np.ascontiguousarray(raw[4:].T)[None]}
    one, _ = detector(tmp_path, saying(said), pipeline={"own_data": golden["own_data"]})
    assert one.family.name == "yolo-nas"
    is_fed_as(golden, one)
    finds(golden, one, said)


def test_yolo_nas_of_ones_own_data_is_turned_by_a_graph_that_takes_whole_numbers(tmp_path: Path) -> None:
    said = {"boxes": np.zeros((1, PLACES, 4), np.float32), "scores": np.zeros((1, PLACES, 5), np.float32)}
    one, _ = detector(tmp_path, saying(said, dtype=np.uint8), pipeline={"own_data": True})
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    (pixels,) = one.family.prepared(red).feeds.values()
    assert pixels[0, :, 0, 0].tolist() == [200, 0, 0]
    assert (one.family.defaults.confidence, one.family.defaults.iou) == (0.5, 0.65)


@pytest.mark.parametrize("golden", GOLDENS["yolov7"], ids=lambda golden: str(golden["classes"]))
def test_yolov7_is_fed_and_read_as_its_repository_does_it(tmp_path: Path, golden: dict[str, Any]) -> None:
    said = {"output": np.ascontiguousarray(chance(golden["seed"], 3 * PLACES, 1 + golden["classes"], 64).T)[None]}
    # So few places are also read as rows of an answer, when there is but one class.
    one, _ = detector(tmp_path, saying(said), pipeline={"family": "yolov5"})
    assert one.family.classes == golden["classes"]
    is_fed_as(golden, one)
    finds(golden, one, said)


def test_the_only_class_of_yolov5_which_notes_its_name_counts(tmp_path: Path) -> None:
    said = {"output0": boxes_at({0: (32, 32, 16, 8, 0.9, 0.5)}, 3 * PLACES, 6)}
    one, _ = detector(
        tmp_path, saying(said, metadata={"stride": "32", "names": "{0: 'cat'}"}), pipeline={"family": "yolov5"}
    )
    found = one.family.found(said, one.family.prepared(picture(BACK)).frame, one.wanted(DetectionParams(), None))
    np.testing.assert_allclose(found.scores, [0.45], atol=1e-6)


def test_rtdetr_of_an_older_ultralytics_is_fed_and_read_as_that_did_it(tmp_path: Path) -> None:
    golden = GOLDENS["older-rtdetr"]
    said = {"output0": np.ascontiguousarray(chance(golden["seed"], 300, CLASSES, 1).T)[None]}
    one, _ = detector(tmp_path, saying(said, metadata=ultralytics_notes(names={n: str(n) for n in range(CLASSES)})))
    assert (one.family.name, one.family.classes) == ("ultralytics-rtdetr", CLASSES)
    is_fed_as(golden, one)
    finds(golden, one, said)


def test_detrs_with_their_post_processing_are_fed_as_their_repositories_do_it(tmp_path: Path) -> None:
    said: dict[str, Array] = {
        "labels": np.zeros((1, 300), np.int64),
        "boxes": np.zeros((1, 300, 4), np.float32),
        "scores": np.zeros((1, 300), np.float32),
    }
    one, _ = detector(tmp_path, saying(said, extra={"orig_target_sizes": [1, 2]}))
    assert one.family.name == "detr-in-graph"
    is_fed_as(GOLDENS["in-graph"], one)
    assert one.family.prepared(picture(BACK)).feeds["orig_target_sizes"].tolist() == [list(BACK)]
