"""POST /inference, GET /models, GET /healthz: one call, one answer, and errors as {"detail", "code"}."""

from typing import Any

import httpx
import pytest

from tests.support.classifiers import MODEL
from tests.support.fleet_of_one import ROOT
from tests.support.picture_stack import ASKED, GREEN, RED, PictureStack, base64_of, zipped

URI = f"data:image/png;base64,{base64_of(RED)}"


def infer(stack: PictureStack, **body: Any) -> httpx.Response:
    return stack.door.http.post("/inference", json={"model_id": MODEL, **body})


def result(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    told = dict(answer.json())
    assert set(told) == {"success", "result", "metadata"}
    assert told["success"] is True
    return dict(told["result"])


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    assert set(answer.json()) == {"detail", "code"}, answer.text
    return answer.status_code, answer.json()["code"], answer.json()["detail"]


def test_a_picture_in_base64_is_answered(stack: PictureStack) -> None:
    assert result(infer(stack, image_base64=base64_of(GREEN)))["top_class"] == "green"


def test_a_data_uri_is_base64_too(stack: PictureStack) -> None:
    assert result(infer(stack, image_base64=URI))["top_class"] == "red"


def test_a_picture_behind_a_url_is_answered(stack: PictureStack) -> None:
    assert result(infer(stack, image_url=f"{stack.site.url}/red.png"))["top_class"] == "red"


def test_the_metadata_say_which_model_ran_where_and_whether_it_was_there_already(stack: PictureStack) -> None:
    first, second = (infer(stack, image_base64=URI).json()["metadata"] for _ in range(2))
    assert set(first) == {"inference_time_ms", "cached", "model", "version", "device"}
    assert (second["model"], second["version"], second["cached"]) == (MODEL, 1, True)
    assert second["inference_time_ms"] > 0
    assert second["device"]


def test_config_reaches_the_task(stack: PictureStack) -> None:
    told = result(infer(stack, image_base64=URI, config={"top_k": 2, "confidence": None}))
    assert [each["class_name"] for each in told["predictions"]] == ["red", "green"]


def test_a_prompt_is_the_question(stack: PictureStack) -> None:
    picture = base64_of((ROOT / "models" / ASKED / "example" / "0000.png").read_bytes())
    body = {"model_id": ASKED, "image_base64": picture, "task": "vqa"}
    assert result(infer(stack, **body, prompt="what is the red shape?"))["answer"] == "triangle"
    assert result(infer(stack, **body, config={"kind": "caption"}))["answer"] == "a red triangle"
    status, code, detail = refusal(infer(stack, **body, prompt="what shape " * 500))
    assert (status, code) == (422, "VALIDATION_ERROR")
    assert "tokens" in detail


def test_the_job_can_be_found_and_a_repeat_with_the_same_key_is_the_same_job(stack: PictureStack) -> None:
    body = {"model_id": MODEL, "image_base64": URI}
    sent = [stack.door.http.post("/inference", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    job = sent[0].headers["fleet-job-id"]
    assert sent[1].headers["fleet-job-id"] == job
    assert sent[1].headers["idempotency-replayed"] == "true"
    assert sent[0].json() == sent[1].json()
    assert stack.door.http.get(f"/api/v1/jobs/{job}").json()["result"] == sent[0].json()["result"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "image_url"),
        ({"image_url": "https://example.com/a.png", "image_base64": "aGk="}, "image_url and image_base64"),
        ({"image_base64": "not base64!"}, "#/image_base64 is not base64"),
        ({"image_base64": "data:image/png,plain"}, "#/image_base64 is a data URI without base64"),
        ({"image_base64": ""}, "#/image_base64 is empty"),
        ({"image_url": ""}, "image_url"),
        ({"image_url": "ftp://example.com/a.png"}, "#/image_url"),
        ({"image_url": "https://10.0.0.1/a.png"}, "#/image_url"),
        ({"image_url": "https://user:secret@example.com/a.png"}, "#/image_url"),
        ({"image_base64": "aGk=", "config": {"normalize": True}}, "#/config/normalize"),
        ({"image_base64": "aGk=", "config": {"top_k": 0}}, "#/config/top_k"),
        ({"image_base64": "aGk=", "prompt": "What colour?"}, "#/prompt"),
        ({"image_base64": "aGk=", "prompt": "?" * 65_537}, "prompt"),
        ({"image_base64": "aGk=", "task": "detection"}, "object-detection"),
        ({"image_base64": "aGk=", "task": "juggling"}, "juggling"),
        ({"image_base64": "aGk=", "model_type": "abacus"}, "abacus"),
        ({"image_base64": "aGk=", "model_type": "blip"}, "visual-qa"),
        ({"image_base64": "aGk=", "model_source": "the moon"}, "the moon"),
        ({"images": []}, "images"),
        ({"image_base64": "aGk=", "colour": "red"}, "colour"),
        # What the worker finds.
        ({"image_base64": base64_of(b"hello")}, "not a picture"),
        ({"image_base64": base64_of(RED[:-40])}, "picture"),
        ({"image_base64": URI, "class_mapping": {"mauve": "purple"}}, "mauve"),
    ],
)
def test_what_cannot_be_answered_says_why_in_the_short_form(
    stack: PictureStack, body: dict[str, Any], says: str
) -> None:
    status, code, detail = refusal(infer(stack, **body))
    assert (status, code) == (422, "VALIDATION_ERROR")
    assert says in detail


@pytest.mark.parametrize("page", ["page.html", "nothing.png", "inside", "round", "large.png"])
def test_a_url_that_gives_no_picture_is_an_error_of_the_request(stack: PictureStack, page: str) -> None:
    status, code, detail = refusal(infer(stack, image_url=f"{stack.site.url}/{page}"))
    assert (status, code) == (422, "VALIDATION_ERROR")
    assert detail


def test_a_list_and_a_zip_have_an_answer_for_each_picture(stack: PictureStack) -> None:
    many = result(infer(stack, images=[URI, {"data": base64_of(b"none")}, {"url": f"{stack.site.url}/red.png"}]))
    assert (many["count"], many["succeeded"]) == (3, 2)
    packed = result(infer(stack, image_base64=base64_of(zipped([RED, GREEN]))))
    assert [item["result"]["top_class"] for item in packed["items"]] == ["red", "green"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/inference", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/inference/nothing", 404, "NOT_FOUND"),
        ("POST", "/inference", 400, "VALIDATION_ERROR"),
    ],
)
def test_what_is_not_here_is_said_in_the_short_form(
    stack: PictureStack, method: str, path: str, status: int, code: str
) -> None:
    answer = stack.door.http.request(method, path, content=b"[]", headers={"content-type": "application/json"})
    assert refusal(answer)[:2] == (status, code)


def test_an_unknown_model_is_not_found(stack: PictureStack) -> None:
    assert refusal(infer(stack, model_id="nobody", image_base64=URI))[:2] == (404, "NOT_FOUND")
    assert refusal(infer(stack, model_id="who/is that", image_base64=URI))[:2] == (404, "NOT_FOUND")


def test_the_models_are_listed_with_what_they_can_be_asked(stack: PictureStack) -> None:
    told = stack.door.http.get("/models").json()
    assert told["count"] == len(told["models"])
    (model,) = [model for model in told["models"] if model["model_id"] == MODEL]
    assert (model["task"], model["version"], model["versions"]) == ("image-classification", 1, [1])
    assert {"top_k", "confidence", "class_mapping"} <= set(model["config"])
    assert model["ready_workers"] == 1


def test_health_is_told_to_everybody(stack: PictureStack) -> None:
    answer = stack.door.http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
