"""What is refused, with which status and code, and where the answer points."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fleet.contracts import MediaKind
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door

JSON = {"content-type": "application/json"}
UNKNOWN = "01990000-0000-7000-8000-000000000001"
TEXT_INPUT = [{"data": "aGVsbG8="}]


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    fields = dict(answer.json())
    assert (answer.status_code, fields["code"]) == (status, code), answer.text
    assert fields["status"] == status
    assert fields["request_id"] == answer.headers["x-request-id"]
    assert fields["type"] == "about:blank"
    assert "Traceback" not in answer.text
    return fields


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"model": "nope"}, 404, "model-not-found", None),
        ({"version": 99}, 404, "model-not-found", None),
        ({"version": 0}, 422, "validation-failed", "#/version"),
        ({"version": 2**40}, 422, "validation-failed", "#/version"),
        ({"model": "../etc"}, 422, "validation-failed", "#/model"),
        ({"task": "segmentation"}, 422, "task-mismatch", "#/task"),
        ({"task": "no-such-task"}, 422, "task-mismatch", "#/task"),
        ({"params": {"colour": 1}}, 422, "validation-failed", "#/params"),
        ({"params": {"threshold": 1.5}}, 422, "validation-failed", "#/params/threshold"),
        ({"params": {"threshold": "high"}}, 422, "validation-failed", "#/params/threshold"),
        ({"params": {"format": "dicom"}}, 422, "validation-failed", "#/params/format"),
        ({"params": {"format": "a\0b"}}, 422, "validation-failed", "#/params"),
        ({"params": []}, 422, "validation-failed", "#/params"),
        ({"priority": "asap"}, 422, "validation-failed", "#/priority"),
        ({"lane": "fast"}, 422, "validation-failed", "#/lane"),
        ({"deadline_s": 0}, 422, "validation-failed", "#/deadline_s"),
        ({"deadline_s": 31 * 86400}, 422, "validation-failed", "#/deadline_s"),
        ({"execution_timeout_s": -1}, 422, "validation-failed", "#/execution_timeout_s"),
        ({"max_attempts": 11}, 422, "validation-failed", "#/max_attempts"),
        ({"labels": {"a": 1}}, 422, "validation-failed", "#/labels/a"),
        ({"labels": {"a:b": "c"}}, 422, "validation-failed", "#/labels"),
        ({"labels": {"a": "b\0"}}, 422, "validation-failed", "#/labels"),
        ({"labels": {"a": "x" * 257}}, 422, "validation-failed", "#/labels"),
        ({"labels": {str(number): "" for number in range(33)}}, 422, "validation-failed", "#/labels"),
        ({"model": "volume", "inputs": []}, 422, "validation-failed", "#/inputs"),
        ({"inputs": [{}]}, 422, "validation-failed", "#/inputs/0"),
        ({"inputs": [{"data": "YQ==", "upload": UNKNOWN}]}, 422, "validation-failed", "#/inputs/0"),
        ({"inputs": [{"data": "not base64!"}]}, 422, "not-base64", "#/inputs/0/data"),
        ({"inputs": [{"data": ""}]}, 422, "empty-input", "#/inputs/0/data"),
        ({"inputs": [{"data": "A" * 1_400_000}]}, 413, "input-too-large", None),
        ({"inputs": [{"upload": "x"}]}, 422, "validation-failed", "#/inputs/0/upload"),
        ({"inputs": [{"upload": UNKNOWN}]}, 404, "upload-not-found", None),
        ({"inputs": [{"object": {"bucket": "somebody", "key": "uploads/default/x/y"}}]}, 422, "foreign-object", None),
        ({"colour": "red"}, 422, "validation-failed", "#/colour"),
    ],
)  # fmt: skip
def test_a_wrong_submit_is_refused(
    shared_door: Door, body: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    fields = problem(shared_door.submit(**body), status, code)
    if pointer is not None:
        assert pointer in [fault["pointer"] for fault in fields["errors"]]


def test_a_fault_says_what_is_allowed(shared_door: Door) -> None:
    fields = shared_door.submit(params={"format": "dicom", "colour": 1, "threshold": 2}).json()
    details = {fault["pointer"]: fault["detail"] for fault in fields["errors"]}
    assert "'nifti', 'nrrd'" in details["#/params/format"]
    assert "maximum of 1" in details["#/params/threshold"]
    assert "known are: format, preview, threshold" in details["#/params"]


def test_a_long_value_is_not_repeated(shared_door: Door) -> None:
    assert "x" * 200 not in shared_door.submit(params={"format": "x" * 5000}).text


def test_inline_data_is_at_most_a_mebibyte(shared_door: Door) -> None:
    for size, status in ((1024 * 1024, 202), (1024 * 1024 + 1, 413)):
        data = base64.b64encode(b"x" * size).decode()
        assert shared_door.submit(inputs=[{"data": data}]).status_code == status


@pytest.mark.parametrize("body", [b"{", b"", b'{"model": NaN}', b'{"model": "\\ud800"}', b"[" * 5000, b"\xff"])
def test_a_body_that_is_not_json_is_refused(shared_door: Door, body: bytes) -> None:
    answer = shared_door.http.post("/api/v1/jobs", content=body, headers=JSON)
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code, "validation-failed" if body == b"" else "invalid-json")


def test_a_body_of_another_type_is_refused(shared_door: Door) -> None:
    for headers in ({"content-type": "text/plain"}, {}):
        answer = shared_door.http.post("/api/v1/jobs", content=b'{"model": "text"}', headers=headers)
        problem(answer, 415, "unsupported-media")


def test_a_volume_model_takes_exactly_one_input(shared_door: Door) -> None:
    for inputs in ([], TEXT_INPUT * 2):
        problem(shared_door.submit(model="volume", inputs=inputs), 422, "validation-failed")


def test_a_model_that_reads_nothing_takes_no_input(shared_door: Door) -> None:
    shared_door.announce(card("nothing", accepts=MediaKind.NONE))
    problem(shared_door.submit(model="nothing"), 422, "validation-failed")
    assert shared_door.submit(model="nothing", inputs=[]).status_code == 202


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("uploads/somebody/01990000-0000-7000-8000-000000000001/x", 422, "foreign-object"),
        ("secrets/x", 422, "foreign-object"),
        ("", 422, "foreign-object"),
        ("uploads/default/01990000-0000-7000-8000-000000000001/x", 404, "object-not-found"),
        ("uploads/default/../somebody/x", 404, "object-not-found"),
        ("results/01990000-0000-7000-8000-000000000001/1/x", 404, "object-not-found"),
        ("results/x/1/x", 404, "object-not-found"),
        ("uploads/default/\0", 422, "validation-failed"),
    ],
)
def test_an_object_that_is_not_the_callers_is_refused(shared_door: Door, key: str, status: int, code: str) -> None:
    reference = {"bucket": shared_door.core.objects.bucket, "key": key}
    problem(shared_door.submit(inputs=[{"object": reference}]), status, code)


@pytest.mark.parametrize("key", ["", "a b", '""', "x" * 256, "schlüssel"])
def test_an_idempotency_key_must_be_visible_and_short(shared_door: Door, key: str) -> None:
    answer = shared_door.http.post(
        "/api/v1/jobs",
        json={"model": "text", "inputs": TEXT_INPUT},
        headers=[(b"Idempotency-Key", key.encode())],
    )
    problem(answer, 400, "invalid-idempotency-key")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "state=lost", "priority=9", "cursor=x", "label=plain",
     "created_after=yesterday", "created_after=0", "created_before=1700000000", "model=a%00b", "label=a:%00"],
)  # fmt: skip
def test_a_wrong_listing_is_refused(shared_door: Door, query: str) -> None:
    fields = problem(shared_door.http.get(f"/api/v1/jobs?{query}"), 422, "validation-failed")
    assert fields["errors"][0]["pointer"].startswith("?" + query.partition("=")[0])


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/jobs/01990000-0000-7000-8000-000000000001", "job-not-found"),
        ("GET", "/api/v1/jobs/x", "job-not-found"),
        ("GET", "/api/v1/jobs/x/result", "job-not-found"),
        ("POST", "/api/v1/jobs/x/cancel", "job-not-found"),
        ("GET", "/api/v1/jobs/x/artifacts/mask.nii.gz", "job-not-found"),
        ("GET", "/api/v1/uploads/x", "upload-not-found"),
        ("DELETE", "/api/v1/uploads/01990000-0000-7000-8000-000000000001", "upload-not-found"),
        ("PUT", "/api/v1/uploads/x/content", "upload-not-found"),
        ("GET", "/api/v1/models/nope", "model-not-found"),
        ("GET", "/api/v1/models/text?version=9", "model-not-found"),
        ("GET", "/api/v1/models/a%00b", "model-not-found"),
        ("GET", "/api/v1/nope", "not-found"),
        ("GET", "/", "not-found"),
    ],
)
def test_what_does_not_exist_is_not_found(shared_door: Door, method: str, path: str, code: str) -> None:
    problem(shared_door.http.request(method, path), 404, code)


@pytest.mark.parametrize(
    ("path", "right"),
    [("jobs/x/result", "GET"), ("jobs", "GET, POST"), ("uploads/x", "GET, DELETE"), ("uploads", "POST")],
)
def test_a_wrong_method_says_which_are_right(shared_door: Door, path: str, right: str) -> None:
    answer = shared_door.http.patch(f"/api/v1/{path}")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == right


def test_the_callers_request_id_is_kept_and_an_unfit_one_replaced(shared_door: Door) -> None:
    answer = shared_door.http.get("/api/v1/nope", headers={"x-request-id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    for unfit in ("x" * 129, "a b"):
        answer = shared_door.http.get("/livez", headers={"x-request-id": unfit})
        assert answer.headers["x-request-id"] not in ("", unfit)


def test_a_body_over_the_limit_is_refused_with_and_without_a_length(settings: Settings) -> None:
    with front_door(settings, max_body_bytes=10_000) as door:
        door.announce(card())

        def chunks() -> Iterator[bytes]:
            yield b'{"model": "'
            for _ in range(20):
                yield b"x" * 1000

        for content in (b"x" * 20_000, chunks()):
            problem(door.http.post("/api/v1/jobs", content=content, headers=JSON), 413, "input-too-large")
        problem(door.http.post("/api/v1/uploads?name=a", content=b"x" * 20_000), 413, "input-too-large")


def test_a_fault_of_ours_is_told_without_its_traceback(settings: Settings) -> None:
    with front_door(settings) as door:
        door.announce(card())

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("the secret is plugh")

        door.core.jobs.page = broken  # type: ignore[method-assign, assignment]
        answer = door.http.get("/api/v1/jobs")
        problem(answer, 500, "internal-error")
        assert "plugh" not in answer.text
