"""The task: what a request may ask for, the shape of the answer, upright coordinates, previews, many pictures."""

import io
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pydantic import ValidationError

from fleet.contracts import MediaKind, ResultKind
from fleet.errors import ModelError, ValidationFailed
from fleet.job_items import BLOCK
from fleet.model_settings import ModelSettings
from tests.support.detectors import boxes_at, loaded, make_model, saying, ultralytics_notes
from tests.support.kept_parts import KeptParts
from tests.support.pictures import encoded, noise, with_orientation
from worker.codecs import Codecs
from worker.contract import Encoded, Model, Source
from worker.detection.detector import Detector
from worker.detection.params import DetectionParams
from worker.engine.loaded import RunnableModel
from worker.media.limits import VolumeLimits
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks import find_tasks
from worker.tasks.object_detection import TASK, ObjectDetection

#: In the input of 64 × 64: a dog, a bird that reaches beyond the edge, and a doubtful cat.
ROWS = {0: (16, 24, 32, 40, 0.9, 1), 1: (48, 30, 70, 50, 0.6, 2), 2: (2, 30, 10, 34, 0.3, 0)}


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Codecs]:
    made = Codecs(VolumeLimits(), tmp_path_factory.mktemp("scratch"))
    yield made
    made.close()


@pytest.fixture
def model(tmp_path: Path) -> Model:
    graph = saying({"output0": boxes_at(ROWS, 300, 6)}, metadata=ultralytics_notes(end2end=True))
    return loaded(make_model(tmp_path / "models", graph))


def answered(
    codecs: Codecs, model: Model, folder: Path, *pictures: bytes, task: ObjectDetection = TASK, **params: Any
) -> Encoded:
    sources = []
    for number, content in enumerate(pictures):
        path = folder / f"{number}.bin"
        path.write_bytes(content)
        sources.append(Source(path, f"{number}.jpg", "image/jpeg"))
    asked, progress = DetectionParams.model_validate(params), JobProgress(StopToken())
    media = codecs.decode(MediaKind.IMAGE, sources, asked, progress)
    return codecs.encode(ResultKind.ITEMS, task.run(media, asked, model, progress), folder)


WIDE = encoded(noise(128, 64), "JPEG")


def test_the_answer_has_shares_of_the_picture_best_first(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    result = answered(codecs, model, tmp_path, WIDE).result
    assert result["count"] == 3
    assert result["image_size"] == {"width": 128, "height": 64}
    dog, bird, _ = result["detections"]
    assert dog == {
        "id": 0,
        "class_name": "dog",
        "class_id": 1,
        "confidence": pytest.approx(0.9),
        "bbox": {"x1": 0.25, "y1": 0.25, "x2": 0.5, "y2": 0.75},
        "area": 0.125,
    }
    assert bird["bbox"] == {"x1": 0.75, "y1": 0.4375, "x2": 1.0, "y2": 1.0}
    assert [one["id"] for one in result["detections"]] == [0, 1, 2]


def test_boxes_are_those_of_the_upright_picture(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    result = answered(codecs, model, tmp_path, with_orientation(noise(128, 64), 6)).result
    assert result["image_size"] == {"width": 64, "height": 128}
    # Sixteen pixels of grey at the left and the right now.
    assert result["detections"][0]["bbox"] == {"x1": 0.0, "y1": 0.375, "x2": 0.5, "y2": 0.625}


def test_a_request_chooses_scores_classes_and_how_many(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    def classes(**params: Any) -> list[int]:
        result = answered(codecs, model, tmp_path, WIDE, **params).result
        return [one["class_id"] for one in result["detections"]]

    assert classes(confidence=0.5) == [1, 2]
    assert classes(classes=["bird", 0]) == [2, 0]
    assert classes(classes=["2"]) == [2]
    assert classes(max_detections=1) == [1]


def test_a_request_gives_classes_other_names(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    result = answered(codecs, model, tmp_path, WIDE, class_mapping={"dog": "Hund", "2": "Vogel"}).result
    assert [one["class_name"] for one in result["detections"]] == ["Hund", "Vogel", "cat"]


def test_a_name_that_several_classes_have_means_all_of_them(codecs: Codecs, tmp_path: Path) -> None:
    notes = ultralytics_notes(end2end=True, names={0: "cat", 1: "pet", 2: "pet"})
    model = loaded(make_model(tmp_path / "models", saying({"output0": boxes_at(ROWS, 300, 6)}, metadata=notes)))
    result = answered(codecs, model, tmp_path, WIDE, classes=["pet"], class_mapping={"pet": "Haustier"}).result
    assert [(one["class_id"], one["class_name"]) for one in result["detections"]] == [(1, "Haustier"), (2, "Haustier")]


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"classes": [0, "zebra"]}, "#/params/classes/1"),
        ({"class_mapping": {"zebra": "x"}}, "#/params/class_mapping/zebra"),
    ],
)
def test_classes_that_the_model_does_not_have_are_refused(
    codecs: Codecs, model: Model, tmp_path: Path, params: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        answered(codecs, model, tmp_path, WIDE, **params)
    assert refused.value.code == "class-unknown"
    assert "it has cat, dog, bird" in refused.value.message
    assert refused.value.errors[0]["pointer"] == pointer


@pytest.mark.parametrize(
    "params",
    [{"confidence": 1.5}, {"confidence": math.nan}, {"iou": -1}, {"max_detections": 0}, {"classes": []}],
)
def test_params_that_cannot_be_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DetectionParams.model_validate(params)


def test_the_threshold_is_the_requests_else_the_authors_else_the_operators_else_the_familys(
    codecs: Codecs, tmp_path: Path
) -> None:
    graph = saying({"output0": boxes_at(ROWS, 300, 6)}, metadata=ultralytics_notes(end2end=True))
    silent = loaded(make_model(tmp_path / "silent", graph))
    strict = loaded(make_model(tmp_path / "strict", graph, pipeline={"confidence": 0.8}))
    operators = TASK.configured(ModelSettings(model_confidence_threshold=0.5))

    def count(model: Model, task: ObjectDetection, **params: Any) -> int:
        return int(answered(codecs, model, tmp_path, WIDE, task=task, **params).result["count"])

    assert count(silent, TASK) == 3
    assert count(silent, operators) == 2
    assert count(strict, operators) == 1
    assert count(strict, operators, confidence=0.1) == 3


def test_the_operators_threshold_reaches_the_task_of_a_worker() -> None:
    found = find_tasks(ModelSettings(model_confidence_threshold=0.5))["object-detection"]
    assert isinstance(found, ObjectDetection)
    assert found is not TASK


def test_what_was_kept_under_another_default_confidence_is_not_taken(
    codecs: Codecs, model: Model, tmp_path: Path
) -> None:
    kept: dict[str, KeptParts] = {}
    sources = []
    for number in range(BLOCK + 1):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(encoded(noise(64, 64), "PNG"))
        sources.append(Source(path, f"{number}.png", "image/png"))

    def counts(confidence: float) -> set[int]:
        progress = JobProgress(StopToken(), tmp_path)
        progress.keeping = lambda hinges_on: kept.setdefault(hinges_on, KeptParts())
        media, task = codecs.decode(MediaKind.IMAGE, sources, DetectionParams(), progress), ObjectDetection(confidence)
        outcome = task.run(media, DetectionParams(), model, progress)
        return {len(answer.result["detections"]) for answer in outcome.answers if answer.result}

    assert [counts(confidence) for confidence in (0.1, 0.5, 0.1)] == [{3}, {2}, {3}]
    assert [parts.keeps for parts in kept.values()] == [["items-000000", "items-000001"]] * 2


def test_a_preview_shows_the_boxes_where_they_are(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    black = encoded(np.zeros((320, 640, 3), np.uint8), "PNG")
    encoding = answered(codecs, model, tmp_path, black, preview=True, classes=["dog"])
    assert encoding.result["preview"] == "preview.png"
    (file,) = encoding.files
    assert (file.name, file.media_type) == ("preview.png", "image/png")
    image = np.asarray(Image.open(io.BytesIO(file.path.read_bytes())).convert("RGB")).max(axis=2)
    assert image.shape == (320, 640)
    # The dog's box has its corners at (160, 80) and (320, 240); within it, and far from it, nothing is drawn.
    assert image[80:240, 160].min() > 0
    assert image[240, 160:320].min() > 0
    assert image[120:230, 170:310].max() == 0
    assert image[:, 400:].max() == 0


def test_one_bad_picture_of_many_fails_alone_and_previews_have_its_number(
    codecs: Codecs, model: Model, tmp_path: Path
) -> None:
    encoding = answered(codecs, model, tmp_path, WIDE, b"no picture", WIDE, preview=True)
    first, second, third = encoding.result["items"]
    assert (first["result"]["count"], third["result"]["preview"]) == (3, "preview-2.png")
    assert "code" in second["error"]
    assert sorted(file.name for file in encoding.files) == ["preview-0.png", "preview-2.png"]


def test_previews_of_very_many_pictures_are_refused(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed) as refused:
        answered(codecs, model, tmp_path, *([WIDE] * 101), preview=True)
    assert refused.value.code == "too-many-previews"


def test_a_long_answer_is_an_artifact_beside_its_short_facts(codecs: Codecs, tmp_path: Path) -> None:
    rows = {place: (place % 60, 24, place % 60 + 4, 30, 0.9, 1) for place in range(900)}
    graph = saying({"output0": boxes_at(rows, 900, 6)}, metadata=ultralytics_notes(end2end=True))
    model = loaded(make_model(tmp_path / "models", graph))
    few = answered(codecs, model, tmp_path, WIDE, max_detections=300)
    assert (len(few.result["detections"]), few.files) == (300, [])
    mapping = {"dog": "d" * 200}
    many = answered(codecs, model, tmp_path, WIDE, max_detections=900, class_mapping=mapping)
    size = {"width": 128, "height": 64}
    assert many.result == {"count": 900, "image_size": size, "artifact": "result.json"}
    assert [file.name for file in many.files] == ["result.json"]
    assert len(json.loads(many.files[0].path.read_bytes())["detections"]) == 900


def test_boxes_that_are_no_numbers_are_no_answer(codecs: Codecs, tmp_path: Path) -> None:
    graph = saying(
        {"output0": boxes_at({0: (1, 2, math.nan, 4, 0.9, 1)}, 300, 6)}, metadata=ultralytics_notes(end2end=True)
    )
    broken = loaded(make_model(tmp_path / "models", graph))
    with pytest.raises(ModelError) as failed:
        answered(codecs, broken, tmp_path, WIDE)
    assert failed.value.code == "result-not-finite"


def test_pictures_of_different_jobs_share_runs_and_get_their_own_answers(codecs: Codecs, tmp_path: Path) -> None:
    graph = brightness_graph()
    batching = {"max_batch_size": 4, "dynamic": True, "max_delay_ms": 2000}
    model = loaded(
        make_model(tmp_path / "models", graph, batching=batching, pipeline={"family": "ultralytics-end-to-end"})
    )
    model.derived(Detector)
    levels = [50, 100, 150, 200]

    def job(level: int) -> float:
        folder = tmp_path / str(level)
        folder.mkdir()
        picture = encoded(np.full((64, 64, 3), level, np.uint8), "PNG")
        result = answered(codecs, model, folder, picture, confidence=0.1).result
        return float(result["detections"][0]["confidence"])

    with ThreadPoolExecutor(len(levels)) as pool:
        confidences = list(pool.map(job, levels))
    assert confidences == pytest.approx([level / 255 for level in levels], abs=1e-6)
    assert isinstance(model, RunnableModel)
    assert model.batch_size > 1


def brightness_graph() -> bytes:
    """One box a picture, as sure as the picture is bright."""
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["most", "three_axes"], ["level"]),
        helper.make_node("Concat", ["level"] * 6, ["row"], axis=2),
        helper.make_node("Mul", ["row", "score_alone"], ["score"]),
        helper.make_node("Add", ["score", "box"], ["output0"]),
    ]
    constants = {
        "three_axes": np.array([-1, 1, 1], np.int64),
        "score_alone": np.array([[[0, 0, 0, 0, 1, 0]]], np.float32),
        "box": np.array([[[8, 8, 40, 40, 0, 0]]], np.float32),
    }
    made = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 1, 6])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
