"""/api/v1/inference: predict waits, batch does not, both are the same durable job; errors are problem details."""

from typing import Any

import httpx
import pytest

from tests.support.classifiers import MODEL
from tests.support.front_door import Door
from tests.support.picture_stack import GREEN, RED, PictureStack, base64_of, zipped

API = "/api/v1/inference"
URI = f"data:image/png;base64,{base64_of(RED)}"


def post(door: Door, path: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return door.http.post(f"{API}/{path}", json={"model_id": MODEL, **body}, headers=headers)


def predicted(stack: PictureStack, **body: Any) -> dict[str, Any]:
    answer = post(stack.door, "predict", **body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def fault(answer: httpx.Response) -> tuple[int, str, list[str]]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    return answer.status_code, told["code"], [each["pointer"] for each in told.get("errors", [])]


def test_a_prediction_has_its_result_and_where_it_came_from(stack: PictureStack) -> None:
    told = predicted(stack, task="classification", image=URI, class_mapping={"red": "rouge"}, config={"top_k": 1})
    assert (told["success"], told["state"], told["error"]) == (True, "succeeded", None)
    assert told["result"]["predictions"][0]["class_name"] == "rouge"
    assert told["metadata"]["model"] == MODEL
    assert told["metadata"].keys() == {"inference_time_ms", "cached", "model", "version", "device"}


@pytest.mark.parametrize("mapping", [{"0": "rot"}, ["rot", "gruen", "blau"]])
def test_classes_are_renamed_by_number_too(stack: PictureStack, mapping: Any) -> None:
    assert predicted(stack, image=URI, class_mapping=mapping)["result"]["top_class"] == "rot"


def test_a_picture_may_be_an_upload_an_object_a_url_or_base64(stack: PictureStack) -> None:
    upload = stack.upload("green.png", GREEN)
    for image in (
        base64_of(GREEN),
        {"upload": upload},
        {"object": stack.key_of(upload)},
        {"data": base64_of(GREEN), "name": "green.png"},
    ):
        assert predicted(stack, image=image)["result"]["top_class"] == "green"
    assert predicted(stack, image=f"{stack.site.url}/red.png")["result"]["top_class"] == "red"


def test_a_batch_is_one_job_that_is_looked_up_by_its_id(stack: PictureStack) -> None:
    answer = post(stack.door, "batch", images=[URI, base64_of(b"none"), f"{stack.site.url}/red.png"])
    assert answer.status_code == 202
    job = answer.json()["id"]
    assert answer.headers["location"] == f"{API}/{job}"
    told = stack.door.http.get(f"{API}/{job}", headers={"Prefer": "wait=60"}).json()
    assert (told["state"], told["success"], told["progress"]) == ("succeeded", True, 1.0)
    assert [sorted(item)[0] for item in told["result"]["items"]] == ["index", "error", "index"]


def test_a_zip_is_a_batch_and_can_be_waited_for(stack: PictureStack) -> None:
    upload = stack.upload("two.zip", zipped([RED, GREEN]))
    answer = post(stack.door, "batch", {"Prefer": "wait=60"}, image={"upload": upload})
    assert answer.status_code == 200
    assert [item["result"]["top_class"] for item in answer.json()["result"]["items"]] == ["red", "green"]


def test_a_key_stands_for_the_first_request(stack: PictureStack) -> None:
    headers = {"Idempotency-Key": "same"}
    first, second = (post(stack.door, "predict", headers, image=URI) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    other = post(stack.door, "predict", headers, image=base64_of(GREEN))
    assert fault(other)[:2] == (422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("body", "code", "pointers"),
    [
        ({}, "image-missing", ["#"]),
        ({"images": []}, "image-missing", ["#/images"]),
        ({"image": "aGk=", "image_url": "https://example.com"}, "image-ambiguous", ["#"]),
        ({"image": "not base64"}, "not-base64", ["#/image"]),
        ({"images": ["aGk=", "?"]}, "not-base64", ["#/images/1"]),
        ({"image": ""}, "empty-input", ["#/image"]),
        ({"image": 7}, "validation-failed", ["#/image"]),
        ({"image": {"url": "https://example.com/a.png", "data": "aGk="}}, "validation-failed", ["#/image"]),
        ({"image": "https://10.0.0.1/a.png"}, "address-refused", []),
        ({"image": {"object": {"bucket": "else", "key": "a"}}}, "foreign-object", []),
        ({"image": "aGk=", "task": "juggling"}, "task-unknown", ["#/task"]),
        ({"image": "aGk=", "task": "embedding"}, "task-mismatch", ["#/task"]),
        ({"image": "aGk=", "model_type": "abacus"}, "model-type-unknown", ["#/model_type"]),
        ({"image": "aGk=", "model_type": "yolov8"}, "task-mismatch", ["#/model_type"]),
        ({"image": "aGk=", "model_source": "moon"}, "model-source-unknown", ["#/model_source"]),
        ({"image": "aGk=", "model_source": "github"}, "validation-failed", ["#/checkpoint_url"]),
        ({"image": "aGk=", "model_source": "huggingface"}, "validation-failed", ["#/task"]),
        ({"image": "aGk=", "model_source": "huggingface", "task": "vqa"}, "validation-failed", ["#/model_id"]),
        ({"image": "aGk=", "checkpoint_url": "ftp://x"}, "validation-failed", ["#/checkpoint_url"]),
        ({"image": "aGk=", "config": {"normalize": True, "dpi": 3}}, "validation-failed",
         ["#/config/normalize", "#/config/dpi"]),
        ({"image": "aGk=", "config": {"confidence": 2}}, "validation-failed", ["#/config/confidence"]),
        ({"image": "aGk=", "prompt": "What?"}, "validation-failed", ["#/prompt"]),
        ({"image": "aGk=", "colour": 1}, "validation-failed", ["#/colour"]),
        ({"image": base64_of(b"hello")}, "not-a-picture", ["#/image"]),
        ({"image": URI, "class_mapping": {"mauve": "lilac"}}, "class-unknown", ["#/class_mapping"]),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_code_and_where_it_is(
    stack: PictureStack, body: dict[str, Any], code: str, pointers: list[str]
) -> None:
    assert fault(post(stack.door, "predict", **body)) == (422, code, pointers)


def test_a_job_that_failed_can_be_found_from_its_error(stack: PictureStack) -> None:
    told = post(stack.door, "predict", image=base64_of(b"hello")).json()
    found = stack.door.http.get(f"{API}/{told['facts']['job_id']}").json()
    assert (found["state"], found["success"], found["result"]) == ("failed", False, None)
    assert (found["error"]["code"], found["error"]["input_at_fault"]) == ("not-a-picture", True)


def test_a_model_must_be_named_and_be_there(stack: PictureStack) -> None:
    answer = stack.door.http.post(f"{API}/predict", json={"image": URI})
    assert fault(answer) == (422, "validation-failed", ["#/model_id"])
    assert fault(post(stack.door, "predict", model_id="nobody", image=URI))[:2] == (404, "model-not-found")


def test_the_summary_tells_what_became_of_the_jobs(stack: PictureStack) -> None:
    before = stack.door.http.get(f"{API}/metrics/summary").json()
    predicted(stack, image=URI)
    post(stack.door, "predict", image=base64_of(b"hello"))
    after = stack.door.http.get(f"{API}/metrics/summary", params={"window_s": 3601}).json()
    assert after["jobs"] == before["jobs"] + 2
    assert after["states"]["succeeded"] == before["states"].get("succeeded", 0) + 1
    assert after["errors"]["not-a-picture"] == before["errors"].get("not-a-picture", 0) + 1
    assert 0 < after["success_rate"] < 1
    assert after["infer_s"]["p50"] <= after["total_s"]["p99"]
    assert sum(after["tasks"].values()) == sum(after["states"].values()) == after["jobs"]
    (model,) = [model for model in after["models"] if model["model"] == MODEL]
    assert model["jobs"] >= model["succeeded"] + model["failed"] >= 2
    assert 0 <= after["cached_share"] <= 1
