"""From an answer, or the lack of one, to an error of ours."""

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from fleet_client.errors import (
    APIError,
    Conflict,
    ConnectionFailed,
    FleetError,
    Forbidden,
    InvalidRequest,
    NotFound,
    Timeout,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from fleet_client.retry import parse_retry_after

#: Says that the first request under this key is still being stored; the same request a moment later is answered.
_IN_USE = "idempotency-key-in-use"
Kind = TypeVar("Kind", bound=BaseModel)

BY_STATUS: dict[int, type[APIError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    415: InvalidRequest,
    422: InvalidRequest,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def problem(answer: httpx.Response) -> APIError:
    """The error that an answer stands for; its body must have been read.

    Answers that are not problem details, as from a proxy in between, keep the start of their text.
    """
    fields = _fields(answer)
    detail = fields.get("detail") or fields.get("title") or _summary(answer)
    errors, facts = fields.get("errors"), fields.get("facts")
    retry_after = parse_retry_after(answer.headers.get("retry-after"))
    if retry_after is None and isinstance(fields.get("retry_after"), int | float):
        retry_after = float(fields["retry_after"])
    error = BY_STATUS.get(answer.status_code, APIError)(
        str(detail),
        status=answer.status_code,
        code=str(fields.get("code") or f"http-{answer.status_code}"),
        errors=[fault for fault in errors if isinstance(fault, dict)] if isinstance(errors, list) else (),
        facts=facts if isinstance(facts, dict) else None,
        request_id=answer.headers.get("x-request-id"),
        retry_after=retry_after,
    )
    if error.code == _IN_USE:
        error.retryable = True
    return error


def read(kind: type[Kind], answer: httpx.Response) -> Kind:
    """The record in a good answer. Raises APIError `unexpected-answer` when it holds something else."""
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        url = answer.request.url
        raise APIError(
            f"{url.scheme}://{url.netloc.decode()} does not answer like a Fleet server "
            f"({answer.headers.get('content-type') or 'no content type'}): is the URL right?",
            status=answer.status_code,
            code="unexpected-answer",
            request_id=answer.headers.get("x-request-id"),
        ) from error


def no_answer(error: httpx.HTTPError, url: httpx.URL) -> FleetError:
    """The error that a failed exchange stands for. Names only the host: the rest of a presigned URL is a secret."""
    where = f"{url.host}:{url.port or {'http': 80, 'https': 443}.get(url.scheme, '')}"
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return Timeout(f"{where} did not answer in time ({reason})")
    return ConnectionFailed(f"no connection to {where}: {reason}")


def _fields(answer: httpx.Response) -> dict[str, Any]:
    try:
        fields = answer.json()
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _summary(answer: httpx.Response) -> str:
    if answer.is_redirect:
        return f"the server redirects to {answer.headers.get('location')}: use that address"
    text = " ".join(answer.text.split())[:200]
    return text or f"the server answered {answer.status_code} {answer.reason_phrase}".rstrip()
