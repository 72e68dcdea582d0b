"""The kind of route that /runpod/v2 is made of: a key with or without `Bearer`, and errors as {"error": text}."""

from http import HTTPStatus
from typing import cast

import orjson
from fastapi import Request, Response

from api.openai.refusal import Refusal
from api.openai.route import FormRoute

PREFIX = "/runpod/v2"
#: What RunPod has no status for, by the one that it would give.
_RUNPODS = {
    HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST,
    HTTPStatus.CONFLICT: HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.BAD_REQUEST,
}


class RunpodRoute(FormRoute):
    @staticmethod
    def form(refusal: Refusal) -> Response:
        """`code` is Fleet's own, and more than RunPod says."""
        status = _RUNPODS.get(refusal.status, refusal.status)
        body = orjson.dumps({"error": refusal.text, "code": refusal.code})
        return Response(body, int(status), dict(refusal.headers), "application/json")

    @staticmethod
    def caller(request: Request) -> str:
        return cast(str, request.app.state.services.tenants.tenant(request.headers, bare=True))
