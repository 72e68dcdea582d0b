"""Numbers that no sound model gives: never an answer that looks like one."""

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fleet.errors import ModelError
from tests.support.detectors import PLACES, boxes_at, detector, loaded, make_model, saying, ultralytics_notes
from worker.contract import Array, Picture
from worker.detection.detector import Detector
from worker.detection.params import DetectionParams

Outputs = dict[str, Array]
_ROW = (8, 8, 24, 24)
#: Family -> an answer of it, and of which output the scores are in which columns.
ANSWERS: dict[str, tuple[Outputs, str, slice]] = {
    "ultralytics": ({"output0": np.zeros((1, 7, PLACES), np.float32)}, "output0", slice(4, None)),
    "ultralytics-end-to-end": ({"output0": boxes_at({0: (*_ROW, 0.9, 1)}, 300, 6)}, "output0", slice(4, 5)),
    "ultralytics-rtdetr": ({"output0": np.full((1, 300, 7), 0.2, np.float32)}, "output0", slice(4, None)),
    "yolov5": ({"output": np.full((1, 3 * PLACES, 8), 0.2, np.float32)}, "output", slice(4, 5)),
    "yolox": ({"output": np.full((1, PLACES, 8), 0.2, np.float32)}, "output", slice(5, None)),
    "yolo-nas": (
        {"boxes": np.zeros((1, PLACES, 4), np.float32), "scores": np.zeros((1, PLACES, 3), np.float32)},
        "scores",
        slice(None),
    ),
    "centerface": (
        {str(n): np.zeros((1, n, 16, 16), np.float32) for n in (1, 2)}
        | {"3": np.zeros((1, 2, 16, 16), np.float32), "10": np.zeros((1, 10, 16, 16), np.float32)},
        "1",
        slice(None),
    ),
}


@pytest.mark.parametrize("family", ANSWERS)
def test_scores_that_are_no_numbers_are_not_taken_for_nothing_found(tmp_path: Path, family: str) -> None:
    outputs, name, columns = ANSWERS[family]
    notes = ultralytics_notes() if family == "ultralytics" else None
    pipeline = {"family": family} | ({"decoded": True} if family == "yolox" else {})
    one, _ = detector(tmp_path, saying(outputs, metadata=notes), pipeline=pipeline)
    broken = {key: value.copy() for key, value in outputs.items()}
    if family == "ultralytics":
        broken[name][:, columns, 7] = math.nan
    else:
        broken[name].reshape(-1, broken[name].shape[-1])[0, columns] = math.nan
    picture = np.zeros((64, 128, 3), np.uint8)
    wanted = one.wanted(DetectionParams(), None)
    with pytest.raises(ModelError) as failed:
        one.family.found(broken, one.family.prepared(picture).frame, wanted)
    assert failed.value.code == "result-not-finite"


def test_a_class_that_is_no_number_is_no_class(tmp_path: Path) -> None:
    outputs = {"output0": boxes_at({0: (*_ROW, 0.9, math.nan)}, 300, 6)}
    one, _ = detector(tmp_path, saying(outputs), pipeline={"family": "ultralytics-end-to-end"})
    frame = one.family.prepared(np.zeros((64, 64, 3), np.uint8)).frame
    with pytest.raises(ModelError) as failed:
        one.family.found(outputs, frame, one.wanted(DetectionParams(), None))
    assert failed.value.code == "result-not-finite"


def test_scores_beyond_one_are_numbers_of_something_else(tmp_path: Path) -> None:
    """An export for poses whose notes were lost looks like one of many classes."""
    columns = (32, 32, 16, 8, 0.9, *(20.0, 30.0, 0.8) * 4)
    said = np.ascontiguousarray(boxes_at({3: columns}, PLACES, len(columns)).transpose(0, 2, 1))
    one, model = detector(tmp_path, saying({"output0": said}))
    assert one.family.name == "ultralytics"
    picture = Picture(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ModelError) as failed:
        one.find(picture, one.wanted(DetectionParams(), None), model, lambda stage: nullcontext())
    assert failed.value.code == "detection-misread"
    assert "a score of 30" in failed.value.message


def test_rows_that_are_boxes_and_not_pictures_never_share_a_run(tmp_path: Path) -> None:
    """Of as many boxes as pictures each job would get one, and whose it is nobody knows."""
    batching = {"max_batch_size": 2, "dynamic": True, "max_delay_ms": 2000}
    folder = make_model(tmp_path, boxes_for_light(), batching=batching, pipeline={"family": "yolov7-end-to-end"})
    model = loaded(folder)
    one = model.derived(Detector)
    wanted = one.wanted(DetectionParams(), None)

    def count(level: int) -> int:
        picture = Picture(np.full((64, 64, 3), level, np.uint8))
        return len(one.find(picture, wanted, model, lambda stage: nullcontext()))

    with ThreadPoolExecutor(2) as pool:
        # Two pictures with a box each could share one, and look as if all did.
        assert list(pool.map(count, [100, 100])) == [1, 1]
        assert list(pool.map(count, [0, 255])) == [0, 2]


def boxes_for_light() -> bytes:
    """A box for each picture that is not dark, and another one where it is bright: so many rows of seven."""
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["level"], axes=[2, 3], keepdims=0),
        helper.make_node("Slice", ["level", "begin", "end"], ["red"]),
        helper.make_node("Greater", ["red", "steps"], ["above"]),
        helper.make_node("Cast", ["above"], ["counts"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["counts"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "one"], ["count"]),
        helper.make_node("Concat", ["count", "seven"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["empty"]),
        helper.make_node("Add", ["empty", "row"], ["output"]),
    ]
    constants: dict[str, Array] = {
        "begin": np.array([0, 0], np.int64),
        "end": np.array([1 << 20, 1], np.int64),
        "steps": np.array([[0.2, 0.6]], np.float32),
        "one": np.array([1], np.int64),
        "seven": np.array([7], np.int64),
        "row": np.array([[0, 8, 8, 24, 24, 1, 0.9]], np.float32),
    }
    made = helper.make_graph(
        nodes,
        "light",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 64, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["boxes", 7])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
