"""What a call raises for a job of embeddings that ended without success."""

from typing import Any

import pytest

from api.embedding_errors import error_of
from fleet.contracts import JobError, JobState
from fleet.errors import (
    DependencyError,
    FleetError,
    InputTooLarge,
    ModelError,
    NoCapableWorker,
    RunStopped,
    ValidationFailed,
)
from tests.support.ended_job import ended


@pytest.mark.parametrize(
    ("code", "retryable", "kind"),
    [
        ("text-too-long", False, ValidationFailed),
        ("dimensions-unsupported", False, ValidationFailed),
        ("validation-failed", False, ValidationFailed),
        ("input-too-large", False, InputTooLarge),
        ("no-capable-worker", True, NoCapableWorker),
        ("worker-lost", False, NoCapableWorker),
        ("object-store-unavailable", True, DependencyError),
        ("result-not-finite", False, ModelError),
        ("out-of-memory", False, ModelError),
    ],
)
def test_the_code_of_the_job_is_the_code_of_the_call(code: str, retryable: bool, kind: type[FleetError]) -> None:
    error = error_of(failed(code, retryable, {"item": 3}))
    assert type(error) is kind
    assert (error.code, error.message, error.facts) == (code, "why", {"item": 3})


def test_a_fault_of_a_text_keeps_its_pointer() -> None:
    error = error_of(failed("text-empty", False, {"pointer": "#/params/input/7", "item": 7}))
    assert isinstance(error, ValidationFailed)
    assert error.errors == [{"detail": "why", "pointer": "#/params/input/7"}]


@pytest.mark.parametrize("state", [JobState.EXPIRED, JobState.CANCELLED])
def test_a_job_that_was_ended_says_how(state: JobState) -> None:
    error = error_of(ended(0.0).model_copy(update={"state": state}))
    assert isinstance(error, RunStopped)
    assert error.code == state.value


def failed(code: str, retryable: bool, facts: dict[str, Any]) -> Any:
    error = JobError(code=code, message="why", retryable=retryable, facts=facts)
    return ended(0.0).model_copy(update={"state": JobState.FAILED, "error": error})
