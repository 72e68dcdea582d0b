"""A model that a request brings along: fetched once, waited for, and said to be on its way when that takes long."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.classifiers import PREPROCESS, SIDE, colours
from tests.support.picture_stack import RED, PictureStack, base64_of
from tests.support.waiting import eventually

URI = base64_of(RED)
METADATA = {"task": "classify", "stride": 1, "imgsz": [SIDE, SIDE], "names": {0: "a", 1: "b", 2: "c"}}


@pytest.fixture
def checkpoint(stack: PictureStack) -> str:
    """An export of ultralytics, which says of itself how pictures are prepared."""
    assert PREPROCESS["size"] == SIDE
    stack.site.files["/trained/best.onnx"] = colours(("Softmax",), metadata=METADATA)
    return f"{stack.site.url}/trained/best.onnx"


def predict(stack: PictureStack, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return stack.door.http.post("/api/v1/inference/predict", json={"image": URI, **body}, headers=headers)


def test_a_trained_model_is_brought_in_once_and_answers_with_its_classes(stack: PictureStack, checkpoint: str) -> None:
    body = {"model_id": "trained", "model_source": "trained", "checkpoint_url": checkpoint, "task": "classification",
            "class_mapping": {"0": "ripe", "1": "green", "2": "rotten"}}  # fmt: skip
    early = predict(stack, {"Prefer": "wait=0"}, **body)
    assert (early.status_code, early.json()["code"]) == (503, "model-importing")
    assert int(early.headers["retry-after"]) >= 1
    assert early.json()["facts"]["model"] == "trained"
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: predict(stack, **body), range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    assert {answer.json()["result"]["top_class"] for answer in answers} == {"ripe"}
    # Once its workers have told of it, its name is enough, with or without the source.
    eventually(lambda: predict(stack, model_id="trained").status_code == 200)
    known = predict(stack, model_id="trained", model_source="trained")
    assert known.json()["result"]["top_class"] == "ripe"
    # Another checkpoint under the same name is another version, and each is found again.
    stack.site.files["/trained/better.onnx"] = colours(("Softmax",), metadata=METADATA)
    better = {"model_id": "trained", "task": "classification", "checkpoint_url": checkpoint.replace("best", "better")}
    for asked, version in ((better, 2), (body, 1)):
        answer = predict(stack, **asked)
        assert answer.status_code == 200, answer.text
        assert answer.json()["metadata"]["version"] == version
    versions = stack.door.http.get("/api/v1/models/trained/versions").json()["versions"]
    assert sorted(version["version"] for version in versions) == [1, 2]


def test_what_the_model_is_to_do_must_fit_what_it_is(stack: PictureStack, checkpoint: str) -> None:
    answer = predict(stack, model_id="odd", task="classification", model_type="yolox", checkpoint_url=checkpoint)
    assert (answer.status_code, answer.json()["code"]) == (422, "task-mismatch")


def test_a_checkpoint_that_is_none_says_so(stack: PictureStack) -> None:
    body = {"model_id": "broken", "task": "classification", "checkpoint_url": f"{stack.site.url}/page.html"}
    answer = predict(stack, **body)
    assert (answer.status_code, answer.json()["code"]) == (404, "model-import-failed")
