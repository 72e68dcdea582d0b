"""Errors under /v2, as Triton's clients read them: {"error": text}, with the statuses that Triton uses."""

from http import HTTPStatus

import orjson
from fastapi import Response

from api.problems import RETRY_AFTER_S, status_of
from fleet.contracts import Job, JobState
from fleet.errors import FleetError, InputError

#: What Triton has no status for, by the one that it would give.
_TRITONS = {
    HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST,
    HTTPStatus.CONFLICT: HTTPStatus.BAD_REQUEST,
    HTTPStatus.TOO_MANY_REQUESTS: HTTPStatus.SERVICE_UNAVAILABLE,
}


def _codes(kind: type[FleetError]) -> set[str]:
    return {kind.code}.union(*(_codes(narrower) for narrower in kind.__subclasses__()))


#: Of failed jobs whose input was at fault: the last ones are what only the model's worker could see.
_INPUT_CODES = _codes(InputError) | {
    "tensors-unreadable", "tensor-twice", "tensor-not-utf8", "tensor-unknown", "tensor-missing", "tensor-datatype",
    "tensor-shape", "batch-too-large", "batch-sizes-differ", "output-unknown", "classification-impossible",
    "datatype-unsupported",
}  # fmt: skip
#: Of failed jobs that found no worker, or whose servers were away: the same request may succeed later.
_LATER_CODES = frozenset({"no-capable-worker", "worker-lost", "input-unavailable", "dependency-unavailable"})


def refusal(
    status: int, message: str, headers: dict[str, str] | None = None, *, retry_after_s: float | None = None
) -> Response:
    """`retry_after_s`: of what is unavailable, a moment where nobody knows better."""
    more = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        more["retry-after"] = str(max(1, round(retry_after_s or RETRY_AFTER_S)))
    # A message may quote what a caller sent, and that need not be text that UTF-8 can carry.
    text = message.encode("utf-8", "replace").decode()
    return Response(orjson.dumps({"error": text}), int(status), more, "application/json")


def refused(error: FleetError) -> Response:
    found = status_of(error)
    status = _TRITONS.get(found, found)
    headers = {"www-authenticate": 'Bearer realm="fleet"'} if status == HTTPStatus.UNAUTHORIZED else None
    return refusal(status, error.message, headers, retry_after_s=error.retry_after_s)


def unsuccessful(job: Job, headers: dict[str, str]) -> Response:
    """Of a job that ended without success."""
    reason = job.error.message if job.error else job.state.value
    code = job.error.code if job.error else ""
    if job.state is JobState.CANCELLED:
        return refusal(HTTPStatus.BAD_REQUEST, f"the request was cancelled: job {job.id}", headers)
    if job.state is JobState.EXPIRED:
        return deadline_exceeded(reason, headers)
    if code in _INPUT_CODES:
        return refusal(HTTPStatus.BAD_REQUEST, reason, headers)
    if code in _LATER_CODES or (job.error is not None and job.error.retryable):
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, headers)
    return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"the model failed: {reason} (job {job.id})", headers)


def deadline_exceeded(reason: str, headers: dict[str, str]) -> Response:
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"request deadline exceeded: {reason}", headers)
