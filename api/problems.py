"""Errors on their way out, as problem details (RFC 9457). The only table of HTTP status codes is here."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from fleet.errors import (
    Busy,
    Conflict,
    DependencyError,
    FleetError,
    ForeignObject,
    IdempotencyKeyReused,
    InputError,
    InputTooLarge,
    LaneFull,
    MalformedRequest,
    NoCapableWorker,
    NotFound,
    RunStopped,
    TooManyWaiting,
    Unauthorized,
    UnsupportedMedia,
    ValidationFailed,
)

MEDIA_TYPE = "application/problem+json"
#: Seconds after which a caller may hope that a failed dependency is back.
RETRY_AFTER_S = 2

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: The nearest class of an error's ancestry decides.
STATUS: dict[type[FleetError], HTTPStatus] = {
    FleetError: HTTPStatus.INTERNAL_SERVER_ERROR,
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    InputTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ForeignObject: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    NoCapableWorker: HTTPStatus.SERVICE_UNAVAILABLE,
    Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    LaneFull: HTTPStatus.SERVICE_UNAVAILABLE,
    TooManyWaiting: HTTPStatus.TOO_MANY_REQUESTS,
    DependencyError: HTTPStatus.SERVICE_UNAVAILABLE,
}
#: Of jobs that were ended on purpose while somebody waited for them, by the code.
STOPPED = {"expired": HTTPStatus.GATEWAY_TIMEOUT, "cancelled": HTTPStatus.CONFLICT}


class Fault(BaseModel):
    detail: str
    pointer: str = Field(description="JSON pointer into the body, `?name` of the query or `header name`")


class Problem(BaseModel):
    """The form of every error of this API."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="stable: compare this and never the text")
    detail: str
    instance: str
    request_id: str
    errors: list[Fault] | None = None
    facts: dict[str, Any] | None = None
    retry_after: int | None = Field(default=None, description="seconds")


def status_of(error: FleetError) -> HTTPStatus:
    if isinstance(error, RunStopped) and error.code in STOPPED:
        return STOPPED[error.code]
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    facts: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    retry_after_s: float | None = None,
) -> Response:
    """`retry_after_s`: when it is worth to ask again; of what is unavailable, a moment later where nobody knows."""
    fields: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
        "instance": request.url.path,
        "request_id": request.state.request_id,
    }
    if errors:
        fields["errors"] = list(errors)
    if facts:
        fields["facts"] = dict(facts)
    more = dict(headers or {})
    if retry_after_s is None and status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after_s = RETRY_AFTER_S
    if retry_after_s is not None:
        fields["retry_after"] = math.ceil(retry_after_s)
        more["retry-after"] = str(fields["retry_after"])
    return Response(orjson.dumps(fields, default=str), int(status), more, MEDIA_TYPE)


def internal_error(request: Request) -> Response:
    """For a fault of ours: the traceback is in the log, under the request id."""
    detail = "Fleet failed here: the traceback is in the server's log under this request id"
    return problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, FleetError.code, detail)


def install(app: FastAPI) -> None:
    app.add_exception_handler(FleetError, _fleet_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _framework_error)


async def _fleet_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FleetError)  # noqa: S101 (registered for this class)
    status = status_of(error)
    return problem(
        request,
        status,
        error.code,
        error.message,
        errors=error.errors if isinstance(error, ValidationFailed) else (),
        facts=error.facts,
        headers={"www-authenticate": 'Bearer realm="fleet"'} if status == HTTPStatus.UNAUTHORIZED else None,
        retry_after_s=error.retry_after_s,
    )


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (registered for this class)
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        where, why = found[0]["loc"][-1], found[0]["ctx"]["error"]
        detail = f"the body is not JSON: {why} at character {where}"
        return problem(request, HTTPStatus.BAD_REQUEST, "invalid-json", detail)
    faults = [{"detail": _plain(fault["msg"]), "pointer": _pointer(fault["loc"])} for fault in found]
    detail = "; ".join(f"{fault['pointer']}: {fault['detail']}" for fault in faults[:3])
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return problem(
        request,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        ValidationFailed.code,
        f"invalid request: {detail}{more}",
        errors=faults,
    )


async def _framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for this class)
    code, detail = f"http-{error.status_code}", error.detail
    if error.status_code == HTTPStatus.NOT_FOUND:
        code, detail = "not-found", f"there is nothing at {request.url.path}"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        code, detail = "method-not-allowed", f"{request.method} is not possible at {request.url.path}"
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(_allowed(request))
    return problem(request, error.status_code, code, detail, headers=headers)


def _allowed(request: Request) -> list[str]:
    """Every method that this path knows (RFC 9110, 10.2.1); the framework names those of one of its routes."""
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def _pointer(location: Sequence[Any]) -> str:
    where, *rest = location
    if where == "query":
        return "?" + ".".join(map(str, rest))
    if where == "header":
        return "header " + ".".join(map(str, rest))
    return pointer(rest if where == "body" else location)


def pointer(path: Sequence[Any]) -> str:
    """A JSON pointer (RFC 6901) as a URI fragment."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
