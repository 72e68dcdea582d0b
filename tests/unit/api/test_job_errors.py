"""What a request raises whose job ended without success: the job's own code, by whose fault it was."""

from typing import Any

import pytest

from api.job_errors import error_of
from api.problems import status_of
from fleet.contracts import Job, JobError, JobState
from fleet.errors import (
    CorruptInput,
    DependencyError,
    FleetError,
    InputTooLarge,
    ModelError,
    NoCapableWorker,
    RunStopped,
    ValidationFailed,
)
from tests.support.ended_job import ended


def job(state: JobState, error: JobError | None) -> Job:
    return ended(0.1).model_copy(update={"state": state, "error": error})


def failed(error: FleetError) -> FleetError:
    """As the error comes back from the record."""
    return error_of(job(JobState.FAILED, JobError.model_validate(error.as_dict())))


@pytest.mark.parametrize(
    ("raised", "kind", "status"),
    [
        (CorruptInput("cut", code="a-code-of-tomorrow", errors=3), ValidationFailed, 422),
        (InputTooLarge("large", max_bytes=3), InputTooLarge, 413),
        (NoCapableWorker("nobody"), NoCapableWorker, 503),
        (DependencyError("away", code="object-store-unavailable"), DependencyError, 503),
        (ModelError("broken", code="model-unloadable"), ModelError, 500),
        (FleetError("unexpected"), ModelError, 500),
    ],
)
def test_a_failure_is_raised_again_with_its_code(raised: FleetError, kind: type[FleetError], status: int) -> None:
    error = failed(raised)
    assert type(error) is kind
    assert (error.code, error.message, status_of(error)) == (raised.code, raised.message, status)
    assert raised.facts.items() <= error.facts.items()
    assert error.facts["job_id"]


def test_a_fault_of_the_request_says_where_it_is() -> None:
    fault = {"detail": "no such class", "pointer": "#/params/classes/0"}
    error = failed(ValidationFailed("no such class", [fault], code="class-unknown"))
    assert isinstance(error, ValidationFailed)
    assert error.errors == [fault]


@pytest.mark.parametrize(("state", "code", "status"), [("expired", "expired", 504), ("cancelled", "cancelled", 409)])
def test_what_was_ended_on_purpose_is_told_as_that(state: str, code: str, status: int) -> None:
    error = error_of(job(JobState(state), None))
    assert isinstance(error, RunStopped)
    assert (error.code, status_of(error)) == (code, status)


def test_errors_of_a_version_before_are_nobodys_fault() -> None:
    old: dict[str, Any] = {"code": "corrupt-picture", "message": "cut", "retryable": False}
    assert type(error_of(job(JobState.FAILED, JobError.model_validate(old)))) is ModelError
