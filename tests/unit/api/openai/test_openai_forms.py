"""An error in OpenAI's form and in the short one: status, words, and whether a client tries again."""

from typing import Any

import orjson
import pytest

from api.openai.forms import openai_form, short_form
from api.openai.refusal import internal_error, refusal_of
from fleet.embeddings import parse_texts
from fleet.errors import (
    Conflict,
    DependencyError,
    FleetError,
    InputTooLarge,
    LaneFull,
    MalformedRequest,
    ModelError,
    NoCapableWorker,
    NotFound,
    RunStopped,
    TooManyWaiting,
    Unauthorized,
    UnsupportedMedia,
    ValidationFailed,
)

INVALID, SERVER = "invalid_request_error", "server_error"


def wrong(pointer: str, code: str) -> ValidationFailed:
    return ValidationFailed("wrong", [{"detail": "wrong", "pointer": pointer}], code=code)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "short"),
    [
        (MalformedRequest("wrong", code="invalid-json"), 400, INVALID, "invalid_json", (400, "VALIDATION_ERROR")),
        (wrong("#/user", "validation-failed"), 400, INVALID, "invalid_value", (422, "VALIDATION_ERROR")),
        (wrong("#/input", "text-too-long"), 400, INVALID, "context_length_exceeded", (422, "VALIDATION_ERROR")),
        (Unauthorized("wrong"), 401, "authentication_error", "invalid_api_key", (401, "UNAUTHORIZED")),
        (NotFound("wrong"), 404, INVALID, "unknown_url", (404, "NOT_FOUND")),
        (NotFound("wrong", code="model-not-found"), 404, INVALID, "model_not_found", (404, "NOT_FOUND")),
        (InputTooLarge("wrong"), 413, INVALID, "input_too_large", (413, "INPUT_TOO_LARGE")),
        (UnsupportedMedia("wrong"), 415, INVALID, "unsupported_media", (415, "UNSUPPORTED_MEDIA")),
        (TooManyWaiting("wrong"), 429, "rate_limit_error", "rate_limit_exceeded", (429, "TOO_MANY_REQUESTS")),
        (LaneFull("wrong"), 503, SERVER, "lane_full", (503, "UNAVAILABLE")),
        (NoCapableWorker("wrong"), 503, SERVER, "no_capable_worker", (503, "UNAVAILABLE")),
        (DependencyError("wrong"), 503, SERVER, "dependency_unavailable", (503, "UNAVAILABLE")),
        (DependencyError("wrong", code="memory-busy"), 503, SERVER, "memory_busy", (503, "MEMORY_ERROR")),
        (ModelError("wrong", code="memory-error"), 507, SERVER, "memory_error", (507, "MEMORY_ERROR")),
        (ModelError("wrong", code="inference-failed"), 500, SERVER, "inference_failed", (500, "MODEL_ERROR")),
        (Conflict("wrong", code="model-refused"), 409, INVALID, "model_refused", (409, "CONFLICT")),
        (RunStopped("wrong", code="expired"), 504, SERVER, "expired", (504, "TIMEOUT")),
        (RunStopped("wrong", code="cancelled"), 409, INVALID, "cancelled", (409, "CONFLICT")),
        (FleetError("wrong"), 500, SERVER, "internal_error", (500, "INTERNAL_ERROR")),
    ],
)
def test_each_kind_of_error(error: FleetError, status: int, kind: str, code: str, short: tuple[int, str]) -> None:
    answer = openai_form(refusal_of(error))
    told = orjson.loads(answer.body)["error"]
    assert (answer.status_code, told["type"], told["code"], told["message"]) == (status, kind, code, "wrong")
    # The client tries these again by itself, unless it is told not to.
    tries = status in (409, 429) or status >= 500
    assert (answer.headers.get("x-should-retry") == "false") == (tries and not error.retryable)
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert ("www-authenticate" in answer.headers) == (status == 401)
    brief = short_form(refusal_of(error))
    assert (brief.status_code, orjson.loads(brief.body)) == (short[0], {"detail": "wrong", "code": short[1]})


@pytest.mark.parametrize(
    ("error", "param"),
    [
        (wrong("#/input/3", "text-empty"), "input"),
        (wrong("#/params/input/3", "text-too-long"), "input"),
        (wrong("#/inputs/0/3", "text-too-long"), "input"),
        (wrong("#/params/dimensions", "dimensions-unsupported"), "dimensions"),
        (wrong("#/task", "task-mismatch"), "model"),
        (wrong("#/params", "anything"), None),
        (ValidationFailed("wrong"), None),
        (NotFound("wrong", model="nobody"), "model"),
        (NotFound("wrong"), None),
        (ModelError("wrong", model="mine"), None),
    ],
)
def test_the_member_at_fault_is_named(error: FleetError, param: str | None) -> None:
    assert refusal_of(error).param == param


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1"), (1.2, "2"), (None, "2"), (600.0, "600")])
def test_the_time_to_come_back_is_in_whole_seconds(seconds: float | None, said: str) -> None:
    refused = refusal_of(TooManyWaiting("wrong", retry_after_s=seconds))
    assert refused.headers["retry-after"] == said


def test_a_fault_of_ours_may_be_tried_again() -> None:
    answer = openai_form(internal_error())
    assert answer.status_code == 500
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize("given", [{"\ud800": 1}, ["red", None]])
def test_a_message_is_always_text_that_can_be_sent(given: Any) -> None:
    with pytest.raises(ValidationFailed) as told:
        parse_texts(given, "#/input")
    assert openai_form(refusal_of(told.value)).body
    assert "?" in orjson.loads(short_form(refusal_of(NotFound("no \ud800"))).body)["detail"]
