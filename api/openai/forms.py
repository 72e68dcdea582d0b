"""The two forms in which a refusal is written: OpenAI's under /v1, and the short one, {"detail", "code"}."""

from http import HTTPStatus

import orjson
from fastapi import Response

from api.openai.refusal import MEMORY_CODES, Refusal
from fleet.errors import ModelError

#: OpenAI's own names, which clients know; every other code is Fleet's, with underscores.
_OPENAI_CODES = {
    "unauthorized": "invalid_api_key",
    "not-found": "unknown_url",
    "validation-failed": "invalid_value",
    "text-too-long": "context_length_exceeded",
    "too-many-waiting": "rate_limit_exceeded",
}
_OPENAI_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
_SHORT_CODES = {
    HTTPStatus.BAD_REQUEST: "VALIDATION_ERROR",
    HTTPStatus.UNAUTHORIZED: "UNAUTHORIZED",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
    HTTPStatus.CONFLICT: "CONFLICT",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "INPUT_TOO_LARGE",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED_MEDIA",
    HTTPStatus.UNPROCESSABLE_ENTITY: "VALIDATION_ERROR",
    HTTPStatus.TOO_MANY_REQUESTS: "TOO_MANY_REQUESTS",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
    HTTPStatus.GATEWAY_TIMEOUT: "TIMEOUT",
}


def openai_form(refusal: Refusal) -> Response:
    """OpenAI knows no 422. Its clients try again by themselves what is 409, 429 or from 500 on, unless told not to."""
    status = refusal.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    headers = dict(refusal.headers)
    if refusal.retryable is False and (status == HTTPStatus.CONFLICT or status >= HTTPStatus.INTERNAL_SERVER_ERROR):
        headers["x-should-retry"] = "false"
    usual = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    error = {
        "message": refusal.text,
        "type": _OPENAI_TYPES.get(status, usual),
        "param": refusal.param,
        "code": _OPENAI_CODES.get(refusal.code, refusal.code.replace("-", "_")),
    }
    return Response(orjson.dumps({"error": error}), int(status), headers, "application/json")


def short_form(refusal: Refusal) -> Response:
    """`code` says the kind of error alone."""
    code = _SHORT_CODES.get(refusal.status, "INTERNAL_ERROR")
    if refusal.code in MEMORY_CODES:
        code = "MEMORY_ERROR"
    elif refusal.model_failed:
        code = ModelError.code.replace("-", "_").upper()
    body = orjson.dumps({"detail": refusal.text, "code": code})
    return Response(body, int(refusal.status), dict(refusal.headers), "application/json")
