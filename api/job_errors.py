"""What a job that ended without success raises in a request that waits for it: the job's own code and message."""

from fleet.contracts import Job, JobError, JobState
from fleet.errors import (
    DependencyError,
    FleetError,
    InputTooLarge,
    ModelError,
    NoCapableWorker,
    RunStopped,
    ValidationFailed,
)

#: Of jobs that found no worker, or lost it: the same request may succeed later.
_LATER_CODES = frozenset({NoCapableWorker.code, "worker-lost", "input-unavailable", "model-unloaded"})


def error_of(job: Job) -> FleetError:
    """Of a job that has ended: an InputError where the request is at fault, else whose fault it was.

    RunStopped `expired` or `cancelled` for one that was ended on purpose. `facts` are the job's, and its id.
    """
    error = _error(job)
    told = job.error.facts if job.error is not None else {}
    # Set, and not passed on: a fact may be called as a parameter is.
    error.facts = {**told, "job_id": str(job.id)}
    return error


def _error(job: Job) -> FleetError:
    if job.state is JobState.EXPIRED:
        reason = job.error.message if job.error is not None else "its time was over"
        return RunStopped(f"job {job.id} has expired: {reason}", code="expired")
    if job.error is None:
        return RunStopped(f"job {job.id} is {job.state.value}", code=job.state.value)
    return _failure(job.error)


def _failure(error: JobError) -> FleetError:
    if error.input_at_fault:
        if error.code == InputTooLarge.code:
            return InputTooLarge(error.message)
        faults = [{"detail": error.message, "pointer": str(error.facts.get("pointer", "#/inputs"))}]
        return ValidationFailed(error.message, faults, code=error.code)
    kind = NoCapableWorker if error.code in _LATER_CODES else DependencyError if error.retryable else ModelError
    return kind(error.message, code=error.code)
