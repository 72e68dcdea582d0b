"""What a job of embeddings that ended without success raises in the call that waits for it: the job's own code."""

from collections.abc import Callable

from fleet.contracts import Job, JobError, JobState
from fleet.errors import (
    DependencyError,
    FleetError,
    InputError,
    InputTooLarge,
    ModelError,
    NoCapableWorker,
    RunStopped,
    ValidationFailed,
)

#: What only the model's worker can see of a request, besides the codes of the error tree.
_INPUT_CODES = frozenset(
    {
        "input-missing", "input-empty", "input-type", "input-mixed", "input-twice", "text-empty", "text-not-unicode",
        "text-too-long", "texts-unreadable", "token-id-invalid", "too-many-texts", "too-many-tokens", "not-lines",
        "prompt-unknown", "prompt-with-token-ids", "dimensions-unsupported", "line-invalid", "inputs-too-many",
        "batch-too-large", "joined-mismatch",
    }
)  # fmt: skip
#: Of jobs that found no worker, or lost it: the same request may succeed later.
_LATER_CODES = frozenset({NoCapableWorker.code, "worker-lost", "input-unavailable", "model-unloaded"})


def error_of(job: Job) -> FleetError:
    """Of a job that has ended: an InputError where the request is at fault, else whose fault it was."""
    if job.state is JobState.EXPIRED:
        reason = job.error.message if job.error is not None else "its time was over"
        return not_in_time(f"job {job.id} has expired: {reason}")
    if job.error is None:
        return RunStopped(f"job {job.id} is {job.state.value}", code=job.state.value)
    return error_of_refusal(job.error)


def error_of_refusal(error: JobError) -> FleetError:
    kind = _kind(error.code, error.retryable)
    if kind is ValidationFailed:
        faults = [{"detail": error.message, "pointer": str(error.facts.get("pointer", "#/params"))}]
        return ValidationFailed(error.message, faults, code=error.code, **error.facts)
    return kind(error.message, code=error.code, **error.facts)


def not_in_time(message: str) -> FleetError:
    return RunStopped(message, code="expired")


def _kind(code: str, retryable: bool) -> Callable[..., FleetError]:
    if code in _LATER_CODES:
        return NoCapableWorker
    if code == InputTooLarge.code:
        return InputTooLarge
    if code in _INPUT_CODES or code in _codes(InputError):
        return ValidationFailed
    return DependencyError if retryable else ModelError


def _codes(kind: type[FleetError]) -> set[str]:
    return {kind.code}.union(*(_codes(narrower) for narrower in kind.__subclasses__()))
