"""What is found out of a file, what is refused as ambiguous, and what metadata may not do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import ModelError
from tests.support.detectors import PLACES, detector, loaded, make_model, saying, ultralytics_notes
from worker.detection.metadata import MAX_LENGTH, class_names, literal, numbered, ultralytics_metadata
from worker.engine.checking import inspect
from worker.tasks.object_detection import TASK


def refusal(repository: Path, graph: bytes, **more: Any) -> ModelError:
    with pytest.raises(ModelError) as refused:
        detector(repository, graph, **more)
    return refused.value


def test_rows_of_six_zeros_are_refused_naming_both_readings_until_one_is_said(tmp_path: Path) -> None:
    graph = saying({"output0": np.zeros((1, 300, 6), np.float32)})
    error = refusal(tmp_path / "a", graph)
    assert error.code == "detection-ambiguous"
    assert "ultralytics-end-to-end (x1, y1, x2, y2 in pixels" in error.message
    assert "ultralytics-rtdetr (centre, width and height as shares" in error.message
    assert "pipeline.family" in error.message
    for family in ("ultralytics-end-to-end", "ultralytics-rtdetr"):
        one, _ = detector(tmp_path / family, graph, pipeline={"family": family})
        assert one.family.name == family


def test_flat_rows_are_refused_naming_both_readings(tmp_path: Path) -> None:
    graph = saying({"rows": np.zeros((2, 7), np.float32)}, shapes={"rows": ["boxes", 7]})
    error = refusal(tmp_path, graph)
    assert error.code == "detection-ambiguous"
    assert "yolov7-end-to-end" in error.message
    assert "yolo-nas" in error.message


def test_logits_that_may_be_read_in_two_ways_are_refused(tmp_path: Path) -> None:
    said = {"logits": np.zeros((1, 100, 8), np.float32), "pred_boxes": np.zeros((1, 100, 4), np.float32)}
    graph = saying(said, image=("pixel_values", [1, 3, 64, 64]))
    error = refusal(tmp_path / "a", graph)
    assert error.code == "detection-ambiguous"
    assert "8 classes under a sigmoid" in error.message
    assert "7 classes and one for nothing under a softmax" in error.message
    for name, classes in (("sigmoid", 8), ("softmax", 7)):
        one, _ = detector(tmp_path / name, graph, pipeline={"activation": name})
        assert one.family.classes == classes
    # The number of names decides as well.
    one, _ = detector(tmp_path / "named", graph, labels={number: f"thing {number}" for number in range(7)})
    assert "softmax" in one.family.told


def test_yolox_that_says_nothing_is_refused_until_it_is_said(tmp_path: Path) -> None:
    # Too far apart for steps, and too near each other for pixels of 320 × 320.
    said = np.zeros((1, 25 * PLACES, 7), np.float32)
    said[0, :, 0] = np.linspace(0, 100, 25 * PLACES)
    graph = saying({"output": said}, image=("images", [1, 3, 320, 320]))
    error = refusal(tmp_path / "a", graph)
    assert error.code == "detection-ambiguous"
    assert "pixels (exported with --decode_in_inference) or steps of a stride (without)" in error.message
    for decoded, units in ((True, "boxes in pixels"), (False, "boxes in steps")):
        one, _ = detector(tmp_path / units, graph, pipeline={"decoded": decoded})
        assert units in one.family.told


def test_a_family_that_the_graph_cannot_be_is_refused_with_its_form(tmp_path: Path) -> None:
    graph = saying({"output0": np.zeros((1, 7, PLACES), np.float32)})
    error = refusal(tmp_path, graph, pipeline={"family": "centerface"})
    assert error.code == "family-unfit"
    assert "four outputs with 1, 2, 2 and 10 channels" in error.message
    assert "output0 [1, 7, 84]" in error.message


def test_a_graph_of_no_family_is_refused_with_what_is_known(tmp_path: Path) -> None:
    error = refusal(tmp_path, saying({"scores": np.zeros((1, 1000), np.float32)}))
    assert error.code == "detection-unknown"
    assert "scores [1, 1000]" in error.message
    assert "yolox: one output [pictures, places, 5 + classes]" in error.message


@pytest.mark.parametrize("shape", [[1, 1, 64, 64], [1, 64, 64, 3], [8, 3, 64, 64]])
def test_graphs_that_take_something_else_than_a_picture_are_refused(tmp_path: Path, shape: list[int]) -> None:
    error = refusal(tmp_path, saying({"output0": np.zeros((1, 7, PLACES), np.float32)}, image=("x", shape)))
    assert error.code in ("unknown-input", "fixed-batch")


def test_free_sides_are_found_out_by_a_run_and_laid_into_the_smallest_rectangle(tmp_path: Path) -> None:
    said = np.zeros((1, 7, PLACES), np.float32)
    graph = saying(
        {"output0": said},
        image=("images", ["batch", 3, "height", "width"]),
        shapes={"output0": ["batch", 7, "anchors"]},
        metadata=ultralytics_notes(),
    )
    wide = np.zeros((32, 64, 3), np.uint8)
    one, _ = detector(tmp_path / "rectangle", graph)
    assert one.family.prepared(wide).frame.size == (64, 32)
    one, _ = detector(tmp_path / "square", graph, pipeline={"rectangle": False})
    assert one.family.prepared(wide).frame.size == (64, 64)


def test_the_size_of_free_sides_is_the_authors_else_that_of_the_file(tmp_path: Path) -> None:
    said = np.zeros((1, 7, 9 * PLACES), np.float32)
    graph = saying({"output0": said}, image=("images", [1, 3, "height", "width"]), metadata=ultralytics_notes())
    one, _ = detector(tmp_path / "noted", graph)
    assert one.family.largest == (64, 64)
    one, _ = detector(tmp_path / "said", graph, pipeline={"input_size": [96, 32]})
    assert one.family.largest == (96, 32)


def test_another_size_than_the_graphs_is_refused(tmp_path: Path) -> None:
    graph = saying({"output0": np.zeros((1, 7, PLACES), np.float32)})
    assert refusal(tmp_path, graph, pipeline={"input_size": [320, 320]}).code == "input-size-unfit"


def test_names_come_from_the_author_before_the_file_before_the_publisher(tmp_path: Path) -> None:
    said = {"output0": np.zeros((1, 7, PLACES), np.float32)}
    noted = saying(said, metadata=ultralytics_notes())
    published = {"config.json": '{"id2label": {"0": "Katze", "1": "Hund"}}'}
    one, _ = detector(tmp_path / "author", noted, labels={0: "feline"}, files=published)
    assert (one.name_of(0), one.name_of(1)) == ("feline", "1")
    one, _ = detector(tmp_path / "file", noted, files=published)
    assert one.name_of(2) == "bird"
    one, _ = detector(tmp_path / "publisher", saying(said), files=published)
    assert one.name_of(1) == "Hund"


def test_names_of_classes_that_the_graph_does_not_have_are_a_fault(tmp_path: Path) -> None:
    graph = saying({"output0": np.zeros((1, 7, PLACES), np.float32)})
    model = loaded(make_model(tmp_path, graph, labels={0: "cat", 3: "zebra"}))
    (fault,) = TASK.check(model)
    assert "3 (zebra)" in fault
    assert "3 classes" in fault


def test_check_prints_what_was_found_and_refuses_what_is_ambiguous(tmp_path: Path) -> None:
    noted = saying({"output0": np.zeros((1, 7, PLACES), np.float32)}, metadata=ultralytics_notes())
    good = make_model(tmp_path / "a", noted)
    findings = inspect(good)
    assert findings.faults == []
    remarks = " ".join(findings.versions[0].remarks)
    assert "family  ultralytics" in remarks
    assert "3 class scores of each place; letterboxed into 64 × 64" in remarks
    assert "3 class names: cat, dog, bird" in remarks
    bad = make_model(tmp_path / "b", saying({"output0": np.zeros((1, 300, 6), np.float32)}))
    (fault,) = inspect(bad).faults
    assert "can be read in 2 ways" in fault


def test_a_graph_that_fails_on_a_picture_is_a_fault_before_any_request(tmp_path: Path) -> None:
    said = {"output0": np.zeros((1, 7, PLACES), np.float32)}
    # Its file says that it takes any size, and one node of it does not.
    broken = saying(
        said, image=("images", [1, 3, "height", "width"]), operators=("Fixed",), metadata=ultralytics_notes()
    )
    (fault,) = inspect(make_model(tmp_path, broken)).faults
    assert "the model" in fault


def test_names_that_no_record_can_hold_are_put_right(tmp_path: Path) -> None:
    notes = ultralytics_notes(names="{0: 'a\\x00b', 1: '\\ud800', 2: 'c'}")
    one, _ = detector(tmp_path, saying({"output0": np.zeros((1, 7, PLACES), np.float32)}, metadata=notes))
    assert [one.name_of(number) for number in range(3)] == ["a\ufffdb", "?", "c"]


HOSTILE = ["__import__('os').system('true')", "{0: open('x')}", "[" * 5000, "-" * 100_000 + "1", "{0: 1}", "{'a': 'b'}",
           "{-1: 'x'}", "{True: 'x'}", "[1, 2]", "{", "", "'x'", "{}"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_dictionary_of_names_is_not_taken_for_one(text: str) -> None:
    assert class_names(text) is None


def test_names_may_be_a_dictionary_or_a_list() -> None:
    assert class_names("{0: 'cat', 7: 'dog'}") == {0: "cat", 7: "dog"}
    assert class_names("['cat', 'dog']") == {0: "cat", 1: "dog"}


def test_longer_literals_are_not_read() -> None:
    assert literal(repr("x" * (MAX_LENGTH - 10))) is not None
    assert literal(repr("x" * MAX_LENGTH)) is None


def test_hostile_metadata_leaves_the_rest_readable() -> None:
    noted = ultralytics_metadata(
        {
            "task": "detect",
            "names": "[" * 9999,
            "stride": "'a'",
            "imgsz": "[1e9, 0]",
            "end2end": "maybe",
            "args": "[]",
        }
    )
    assert noted is not None
    assert (noted.names, noted.stride, noted.size, noted.end_to_end) == (None, None, None, None)
    assert not noted.suppressed
    assert ultralytics_metadata({"names": "{}"}) is None


def test_sizes_are_written_height_first() -> None:
    noted = ultralytics_metadata({"task": "detect", "names": "{}", "stride": "32", "imgsz": "[480, 640]"})
    assert noted is not None
    assert noted.size == (640, 480)


def test_numbers_of_classes_that_no_class_can_have_are_left_out() -> None:
    assert numbered({"0": "cat", "9" * 5000: "hostile", "x": "none", "-1": "none", "٣": "none"}) == {0: "cat"}


def test_logits_of_another_form_are_no_queries(tmp_path: Path) -> None:
    said = {"logits": np.zeros((1, 5), np.float32), "pred_boxes": np.zeros((1, 5, 4), np.float32)}
    with pytest.raises(ModelError) as refused:
        detector(tmp_path, saying(said, image=("pixel_values", [1, 3, 64, 64])))
    assert refused.value.code == "detection-unknown"
