"""What an error becomes for those who speak OpenAI's dialect or the short form, before it is written in either."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from api.problems import RETRY_AFTER_S, STOPPED, status_of
from fleet.errors import FleetError, ModelError, NotFound, ValidationFailed

#: Too little memory for the model, or for this request.
MEMORY_CODES = frozenset(
    {
        "memory-error",
        "not-enough-memory",
        "memory-busy",
        "memory-shared-out",
        "out-of-memory",
        "inference-out-of-memory",
    }
)
_WAITABLE = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
#: Where the pointer of a fault begins with another word than the request's own.
_PARAMS = {"inputs": "input", "task": "model"}


@dataclass(frozen=True)
class Refusal:
    status: HTTPStatus
    #: Fleet's own, see docs/reference/errors.md.
    code: str
    message: str
    #: The member of the body that is at fault.
    param: str | None = None
    #: Whether the same request may succeed later; None: nobody knows.
    retryable: bool | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Neither the request nor the fleet is at fault.
    model_failed: bool = False

    @property
    def text(self) -> str:
        """The message as UTF-8 can carry it: it may quote what a caller sent."""
        return self.message.encode("utf-8", "replace").decode()


def refusal_of(error: FleetError) -> Refusal:
    status = _status(error)
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="fleet"'
    if status in _WAITABLE:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s or RETRY_AFTER_S)))
    return Refusal(
        status, error.code, error.message, _param(error), error.retryable, headers, isinstance(error, ModelError)
    )


def internal_error() -> Refusal:
    detail = "Fleet failed here: the traceback is in the server's log under this request id"
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, FleetError.code, detail)


def _status(error: FleetError) -> HTTPStatus:
    if error.code in MEMORY_CODES:
        return HTTPStatus.SERVICE_UNAVAILABLE if error.retryable else HTTPStatus.INSUFFICIENT_STORAGE
    return STOPPED.get(error.code) or status_of(error)


def _param(error: FleetError) -> str | None:
    """The first word of the pointer to the fault; a job's own pointers begin with its `params`."""
    if isinstance(error, ValidationFailed):
        pointer = error.errors[0]["pointer"] if error.errors else str(error.facts.get("pointer", ""))
        words = [word for word in pointer.removeprefix("#").split("/") if word]
        if words[:1] == ["params"]:
            words = words[1:]
        return _PARAMS.get(words[0], words[0]) if words else None
    return "model" if isinstance(error, NotFound) and "model" in error.facts else None
