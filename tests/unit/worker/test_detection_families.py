"""Each family of detectors: recognised from its file alone, and its numbers become the boxes that they mean."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import ModelError
from tests.support.detectors import PLACES, boxes_at, detector, saying, ultralytics_notes
from tests.unit.worker.test_detection_boxes import GOLDENS
from worker.contract import Array
from worker.detection.detector import Detector
from worker.detection.found import Wanted
from worker.detection.params import DetectionParams

#: A picture twice as wide as the input: letterboxed to 64 × 32 with 16 pixels of grey above and below.
WIDE: Array = np.zeros((64, 128, 3), np.uint8)


def found_by(one: Detector, outputs: Mapping[str, Array], **asked: Any) -> list[tuple[int, float, list[float]]]:
    """Class, score and box in pixels of `WIDE`, clipped to it."""
    frame = one.family.prepared(WIDE).frame
    answer = one.family.found(outputs, frame, one.wanted(DetectionParams(**asked), None)).clipped((128, 64))
    rows = zip(answer.classes, answer.scores, answer.boxes, strict=True)
    return [(int(c), round(float(s), 4), [round(float(v), 3) for v in box]) for c, s, box in rows]


def test_ultralytics_heads_are_known_by_the_number_of_places(tmp_path: Path) -> None:
    said = boxes_at(
        {
            3: (32, 32, 16, 8, 0.1, 0.9, 0.2),
            # The same thing again, a little less sure; and something of another class in the same place.
            5: (33, 32, 16, 8, 0.1, 0.8, 0.2),
            7: (32, 32, 16, 8, 0.7, 0.1, 0.2),
            9: (60, 20, 20, 10, 0.0, 0.0, 0.3),
            11: (10, 30, 4, 4, 0.25, 0.0, 0.0),
        },
        PLACES,
        7,
    ).transpose(0, 2, 1)
    outputs = {"output0": np.ascontiguousarray(said)}
    one, _ = detector(tmp_path, saying(outputs))
    assert one.family.name == "ultralytics"
    assert one.family.classes == 3
    expected = [
        (1, 0.9, [48.0, 24.0, 80.0, 40.0]),
        (0, 0.7, [48.0, 24.0, 80.0, 40.0]),
        (2, 0.3, [100.0, 0.0, 128.0, 18.0]),
    ]
    assert found_by(one, outputs) == expected
    assert found_by(one, outputs, class_agnostic=True) == [expected[0], expected[2]]
    assert found_by(one, outputs, confidence=0.5, classes=[0]) == [expected[1]]
    assert found_by(one, outputs, max_detections=1) == [expected[0]]
    assert len(found_by(one, outputs, iou=0.95)) == 4


def test_a_graph_of_half_precision_is_fed_and_read_as_such(tmp_path: Path) -> None:
    said = boxes_at({3: (32, 32, 16, 8, 0.125, 0.75, 0.25)}, PLACES, 7).transpose(0, 2, 1).astype(np.float16)
    outputs = {"output0": np.ascontiguousarray(said)}
    one, model = detector(tmp_path, saying(outputs, dtype=np.float16))
    feeds = one.family.prepared(WIDE).feeds
    assert feeds["images"].dtype == np.float16
    assert found_by(one, model.run(feeds)) == [(1, 0.75, [48.0, 24.0, 80.0, 40.0])]


@pytest.mark.parametrize("task", ["segment", "pose"])
def test_what_lies_behind_the_classes_is_no_class(tmp_path: Path, task: str) -> None:
    said = np.ascontiguousarray(boxes_at({3: (32, 32, 16, 8, 0.1, 0.9, 0.2, 5.0, 7.0)}, PLACES, 9).transpose(0, 2, 1))
    one, _ = detector(tmp_path, saying({"output0": said}, metadata=ultralytics_notes(task=task)))
    assert one.family.classes == 3
    assert [row[0] for row in found_by(one, {"output0": said})] == [1]
    assert one.name_of(1) == "dog"


def test_coefficients_of_masks_are_no_classes_even_without_a_note(tmp_path: Path) -> None:
    said = np.zeros((1, 4 + 3 + 32, PLACES), np.float32)
    one, _ = detector(tmp_path, saying({"output0": said, "output1": np.zeros((1, 32, 16, 16), np.float32)}))
    assert (one.family.name, one.family.classes) == ("ultralytics", 3)


@pytest.mark.parametrize("task", ["classify", "obb"])
def test_exports_for_other_tasks_are_refused(tmp_path: Path, task: str) -> None:
    graph = saying({"output0": np.zeros((1, 7, PLACES), np.float32)}, metadata=ultralytics_notes(task=task))
    with pytest.raises(ModelError) as refused:
        detector(tmp_path, graph)
    assert refused.value.code == "task-unfit"


ROWS = {0: (8, 16, 24, 32, 0.9, 2), 1: (8, 16, 24, 33, 0.8, 2), 2: (60, 20, 90, 30, 0.25, 0)}


SAID: list[dict[str, Any]] = [{"end2end": True}, {"head": "Detect"}, {"args": {"nms": True}}]
NOTES = [None, *(ultralytics_notes(**said) for said in SAID)]


@pytest.mark.parametrize("notes", NOTES, ids=["numbers", "end2end", "head", "nms"])
def test_end_to_end_rows_are_taken_as_they_are(tmp_path: Path, notes: dict[str, Any] | None) -> None:
    said = boxes_at(ROWS, 300, 6)
    one, _ = detector(tmp_path, saying({"output0": said}, metadata=notes))
    assert one.family.name == "ultralytics-end-to-end"
    assert found_by(one, {"output0": said}) == [(2, 0.9, [16, 0, 48, 32]), (2, 0.8, [16, 0, 48, 34])]


@pytest.mark.parametrize("known_by", ["head", "operator", "numbers"])
def test_rtdetr_of_ultralytics_gives_shares_of_a_stretched_picture(tmp_path: Path, known_by: str) -> None:
    said = boxes_at({0: (0.5, 0.5, 0.25, 0.5, 0.9, 2), 1: (0.1, 0.1, 0.4, 0.4, 0.6, 1)}, 300, 6)
    notes = ultralytics_notes(head="RTDETRDecoder") if known_by == "head" else None
    operators = ("GridSample",) if known_by == "operator" else ()
    one, _ = detector(tmp_path, saying({"output0": said}, metadata=notes, operators=operators))
    assert one.family.name == "ultralytics-rtdetr"
    expected = [(2, 0.9, [48, 16, 80, 48]), (1, 0.6, [0, 0, 38.4, 19.2])]
    assert found_by(one, {"output0": said}) == expected


def test_older_rtdetr_of_ultralytics_gives_a_score_for_each_class(tmp_path: Path) -> None:
    said = boxes_at({0: (0.5, 0.5, 0.25, 0.5, 0.2, 0.9, 0.1)}, 300, 7)
    one, _ = detector(tmp_path, saying({"output0": said}, metadata=ultralytics_notes()))
    assert (one.family.name, one.family.classes) == ("ultralytics-rtdetr", 3)
    assert found_by(one, {"output0": said}) == [(1, 0.9, [48, 16, 80, 48])]


def test_yolov5_multiplies_what_is_there_with_what_it_is(tmp_path: Path) -> None:
    said = boxes_at(
        {
            0: (32, 32, 16, 8, 0.9, 0.5, 0.8),
            4: (10, 30, 4, 4, 0.2, 1.0, 0.0),
            6: (10, 30, 4, 4, 0.5, 0.4, 0.4),
        },
        3 * PLACES,
        7,
    )
    one, _ = detector(tmp_path, saying({"output": said}))
    assert (one.family.name, one.family.classes) == ("yolov5", 2)
    # The second is not there, the third is nothing in particular.
    assert found_by(one, {"output": said}) == [(1, 0.72, [48, 24, 80, 40])]


def test_yolov5_counts_half_pixels_of_the_border(tmp_path: Path) -> None:
    one, _ = detector(tmp_path, saying({"output": np.zeros((1, 3 * PLACES, 7), np.float32)}))
    frame = one.family.prepared(np.zeros((30, 47, 3), np.uint8)).frame
    assert frame.gain == (64 / 47, 64 / 47)
    assert frame.offset == (0.0, (64 - 30 * 64 / 47) / 2)


def test_yolov7_writes_the_class_before_the_score(tmp_path: Path) -> None:
    said = np.array([[0, 8, 16, 24, 32, 2, 0.9], [0, 8, 16, 24, 32, 1, 0.1]], np.float32)
    graph = saying({"output": said}, shapes={"output": ["boxes", 7]})
    # Known by the name that its export gives to what the graph answers.
    one, _ = detector(tmp_path, graph)
    assert one.family.name == "yolov7-end-to-end"
    assert found_by(one, {"output": said}) == [(2, 0.9, [16, 0, 48, 32])]
    # 40.85 rows become 41, and half of what they leave free is the border.
    frame = one.family.prepared(np.zeros((30, 47, 3), np.uint8)).frame
    assert frame.gain == (64 / 47, 64 / 47)
    assert frame.offset == (0.0, (64 - 41) / 2)


def yolox_answer(*, decoded: bool) -> Array:
    """A box around (20, 12) of 16 × 8 in the place of column 2 and row 1 of stride 8, class 1."""
    said = np.zeros((1, PLACES, 7), np.float32)
    if decoded:
        columns = np.arange(PLACES) % 8
        said[0, :, 0], said[0, :, 1], said[0, :, 2:4] = columns * 8, np.arange(PLACES) // 8 * 6, 4
        said[0, 8 + 2, :4] = (20, 12, 16, 8)
    else:
        said[0, 8 + 2, :4] = (0.5, 0.5, np.log(2), 0)
    said[0, 8 + 2, 4:] = (0.9, 0.1, 0.8)
    return said


@pytest.mark.parametrize("decoded", [True, False])
def test_yolox_is_decoded_where_its_graph_has_not_done_it(tmp_path: Path, decoded: bool) -> None:
    said = yolox_answer(decoded=decoded)
    one, _ = detector(tmp_path, saying({"output": said}))
    assert one.family.name == "yolox"
    # At the top left of the input, at half the picture's size.
    assert found_by(one, {"output": said}) == [(1, 0.72, [24, 16, 56, 32])]


def test_yolox_takes_colours_the_other_way_round_and_as_they_are(tmp_path: Path) -> None:
    one, _ = detector(tmp_path, saying({"output": yolox_answer(decoded=False)}))
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    (pixels,) = one.family.prepared(red).feeds.values()
    assert pixels[0].max(axis=(1, 2)).tolist() == [0, 0, 200]


def test_yolox_of_old_weights_is_fed_as_imagenet_is(tmp_path: Path) -> None:
    graph = saying({"output": yolox_answer(decoded=False)})
    one, _ = detector(tmp_path, graph, pipeline={"legacy": True})
    (pixels,) = one.family.prepared(np.full((64, 64, 3), 255, np.uint8)).feeds.values()
    np.testing.assert_allclose(pixels[0, 0], (1 - 0.485) / 0.229, rtol=1e-5)


def nas_raw() -> dict[str, Array]:
    boxes, scores = np.zeros((1, PLACES, 4), np.float32), np.zeros((1, PLACES, 3), np.float32)
    boxes[0, 5], scores[0, 5] = (8, 20, 24, 40), (0.9, 0.1, 0.6)
    boxes[0, 6], scores[0, 6] = (8, 20, 24, 39), (0.8, 0.0, 0.0)
    return {"boxes": boxes, "scores": scores}


def test_yolo_nas_leaves_a_margin_and_lets_a_place_be_two_things(tmp_path: Path) -> None:
    said = nas_raw()
    one, _ = detector(tmp_path, saying(said))
    assert (one.family.name, one.family.classes) == ("yolo-nas", 3)
    frame = one.family.prepared(WIDE).frame
    assert (frame.gain, frame.offset) == ((60 / 128, 60 / 128), (2, 17))
    odd = one.family.prepared(np.zeros((33, 47, 3), np.uint8)).frame
    # 60 × 42.13 pixels, and so 42, with eleven above and below.
    assert (odd.gain, odd.offset) == ((60 / 47, 60 / 47), (2, 11))
    assert [row[:2] for row in found_by(one, said)] == [(0, 0.9), (2, 0.6)]
    assert [row[:2] for row in found_by(one, said, class_agnostic=True)] == [(0, 0.9)]


@pytest.mark.parametrize("prefix", ["", "graph2_"])
def test_yolo_nas_that_counts_its_boxes(tmp_path: Path, prefix: str) -> None:
    said = {
        "num_predictions": np.array([[1]], np.int64),
        "pred_boxes": boxes_at({0: (8, 20, 24, 40), 1: (1, 2, 3, 4)}, 10, 4),
        "pred_scores": np.full((1, 10), 0.9, np.float32),
        "pred_classes": np.full((1, 10), 2, np.int64),
    }
    said = {prefix + name: value for name, value in said.items()}
    one, _ = detector(tmp_path, saying(said, dtype=np.uint8))
    assert one.family.name == "yolo-nas"
    assert [row[:2] for row in found_by(one, said)] == [(2, 0.9)]
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    (pixels,) = one.family.prepared(red).feeds.values()
    assert (pixels.dtype, pixels[0, :, 32, 32].tolist()) == (np.uint8, [200, 0, 0])


def test_yolo_nas_in_flat_rows_writes_the_score_before_the_class(tmp_path: Path) -> None:
    said = {"graph2_flat_predictions": np.array([[0, 8, 20, 24, 40, 0.9, 2]], np.float32)}
    one, _ = detector(tmp_path, saying(said, dtype=np.uint8, shapes={"graph2_flat_predictions": ["boxes", 7]}))
    assert one.family.name == "yolo-nas"
    assert [row[:2] for row in found_by(one, said)] == [(2, 0.9)]


@pytest.mark.parametrize("golden", GOLDENS["detr"], ids=lambda golden: "softmax" if golden["softmax"] else "sigmoid")
def test_queries_become_the_boxes_of_transformers(tmp_path: Path, golden: dict[str, Any]) -> None:
    random = np.random.default_rng(golden["seed"])
    said = {
        "logits": random.normal(0, 2, (1, 20, 5)).astype(np.float32),
        "pred_boxes": random.uniform(0.1, 0.9, (1, 20, 4)).astype(np.float32),
    }
    config = {"model_type": "detr" if golden["softmax"] else "rt_detr"}
    graph = saying(said, image=("pixel_values", [1, 3, 64, 64]))
    one, _ = detector(tmp_path, graph, files={"config.json": json.dumps(config)})
    assert one.family.name == "detr"
    width, height = golden["size"]
    frame = one.family.prepared(np.zeros((height, width, 3), np.uint8)).frame
    answer = one.family.found(said, frame, Wanted(0.5, 1, 300))
    rows = np.array(sorted(golden["rows"], key=lambda row: -row[4]), np.float32)
    np.testing.assert_allclose(answer.boxes, rows[:, :4], atol=1e-4)
    np.testing.assert_allclose(answer.scores, rows[:, 4], atol=1e-6)
    np.testing.assert_array_equal(answer.classes, rows[:, 5])


def test_queries_are_fed_as_the_publisher_says(tmp_path: Path) -> None:
    said = {"logits": np.zeros((1, 5, 4), np.float32), "pred_boxes": np.zeros((1, 5, 4), np.float32)}
    graph = saying(said, image=("pixel_values", [1, 3, "height", "width"]))
    preprocessor = {"size": {"shortest_edge": 48, "longest_edge": 80}, "do_normalize": True, "image_mean": [0.5] * 3,
                    "image_std": [0.25] * 3}  # fmt: skip
    files = {"config.json": json.dumps({"model_type": "detr"}), "preprocessor_config.json": json.dumps(preprocessor)}
    one, _ = detector(tmp_path, graph, files=files)
    (pixels,) = one.family.prepared(np.full((64, 96, 3), 255, np.uint8)).feeds.values()
    assert pixels.shape == (1, 3, 48, 72)
    np.testing.assert_allclose(pixels, 2.0, atol=1e-6)
    assert one.family.prepared(WIDE).frame.size == (80, 40)


@pytest.mark.parametrize(
    ("kind", "shape", "white"),
    [("deformable_detr", (666, 1333), (1 - 0.485) / 0.229), ("rt_detr", (640, 640), 1.0)],
)
def test_without_the_publishers_file_queries_are_fed_as_their_kind_is(
    tmp_path: Path, kind: str, shape: tuple[int, int], white: float
) -> None:
    """Not by how scores are made: a sigmoid does not say that pictures are stretched."""
    said = {"logits": np.zeros((1, 5, 4), np.float32), "pred_boxes": np.zeros((1, 5, 4), np.float32)}
    graph = saying(said, image=("pixel_values", [1, 3, "height", "width"]))
    one, _ = detector(tmp_path, graph, files={"config.json": json.dumps({"model_type": kind})})
    (pixels,) = one.family.prepared(np.full((64, 128, 3), 255, np.uint8)).feeds.values()
    assert pixels.shape[2:] == shape
    np.testing.assert_allclose(pixels[0, 0], white, rtol=1e-6)


@pytest.mark.parametrize(
    "said",
    [{"resample": [2]}, {"rescale_factor": "x"}, {"pad_size": {"height": 8, "width": 8}}, {"image_std": [0] * 3}],
)
def test_a_publishers_file_that_cannot_be_followed_is_refused(tmp_path: Path, said: dict[str, Any]) -> None:
    answer = {"logits": np.zeros((1, 5, 4), np.float32), "pred_boxes": np.zeros((1, 5, 4), np.float32)}
    files = {
        "config.json": json.dumps({"model_type": "detr"}),
        "preprocessor_config.json": json.dumps({"do_normalize": True} | said),
    }
    with pytest.raises(ModelError) as refused:
        detector(tmp_path, saying(answer, image=("pixel_values", [1, 3, 64, 64])), files=files)
    assert refused.value.code == "preprocessor-unfit"


def test_detr_with_its_end_in_the_graph_is_told_width_before_height(tmp_path: Path) -> None:
    said = {
        "labels": np.array([[2, 1]], np.int64),
        "boxes": np.array([[[10, 20, 30, 40], [0, 0, 5, 5]]], np.float32),
        "scores": np.array([[0.9, 0.3]], np.float32),
    }
    one, _ = detector(tmp_path, saying(said, extra={"orig_target_sizes": [1, 2]}))
    assert one.family.name == "detr-in-graph"
    assert one.family.prepared(WIDE).feeds["orig_target_sizes"].tolist() == [[128, 64]]
    assert found_by(one, said) == [(2, 0.9, [10, 20, 30, 40])]


def test_centerface_finds_a_face_and_its_points(tmp_path: Path) -> None:
    heat, sides, centres, points = (np.zeros((1, count, 16, 16), np.float32) for count in (1, 2, 2, 10))
    heat[0, 0, 4, 8] = 0.9
    # Twice as high as wide: 16 × 8 pixels of the input around ((8 + 0.25 + 0.5) · 4, (4 + 0.5) · 4) = (35, 18).
    sides[0, :, 4, 8] = np.log(4), np.log(2)
    centres[0, :, 4, 8] = 0, 0.25
    points[0, :, 4, 8] = [0.25, 0.5] * 5
    # The same face in the next cell.
    heat[0, 0, 4, 9] = 0.8
    sides[0, :, 4, 9] = np.log(4), np.log(2)
    said = {"537": heat, "538": sides, "539": centres, "540": points}
    one, _ = detector(tmp_path, saying(said))
    assert (one.family.name, one.name_of(0)) == ("centerface", "face")
    assert found_by(one, said) == [(0, 0.9, [62, 10, 78, 26])]
    frame = one.family.prepared(WIDE).frame
    answer = one.family.found(said, frame, one.wanted(DetectionParams(), None))
    assert answer.landmarks is not None
    np.testing.assert_allclose(answer.landmarks[0, 0], [(31 + 0.5 * 8) * 2, 10 + 0.25 * 16], rtol=1e-6)
    assert found_by(one, said, confidence=0.95) == []


def test_centerface_of_any_size_takes_multiples_of_32_up_to_the_longest_side(tmp_path: Path) -> None:
    shapes = {name: [1, count, "rows", "columns"] for name, count in (("a", 1), ("b", 2), ("c", 2), ("d", 10))}
    said = {name: np.zeros((1, int(shape[1]), 16, 16), np.float32) for name, shape in shapes.items()}
    graph = saying(said, image=("x", [1, 3, "height", "width"]), shapes=shapes)
    one, _ = detector(tmp_path, graph, pipeline={"longest_side": 320})
    assert one.family.prepared(np.zeros((100, 130, 3), np.uint8)).frame.size == (160, 128)
    assert one.family.prepared(np.zeros((3000, 4000, 3), np.uint8)).frame.size == (320, 256)
