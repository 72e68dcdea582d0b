"""The kind of route that /v2 is made of: asks who calls, reads no body by itself, and answers errors as Triton does."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from api.kserve.errors import refusal, refused
from fleet.errors import FleetError
from fleet.logs import get_logger

PREFIX = "/v2"
#: For machines that watch: without a key.
_OPEN = frozenset({f"{PREFIX}/health/live", f"{PREFIX}/health/ready"})
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
#: Triton's extensions that are not here, by the path that they begin with; {} stands for one name.
_NOT_HERE = {
    "systemsharedmemory": "shared memory is not possible: requests may run on another machine; send the tensors",
    "cudasharedmemory": "shared memory is not possible: requests may run on another machine; send the tensors",
    "trace": "traces are set by the server's OpenTelemetry settings, not by requests",
    "logging": "logs are set by the server's LOG_LEVEL, not by requests",
}
_NOT_OF_A_MODEL = {
    "trace": _NOT_HERE["trace"],
    "generate": "the generate extension is not implemented: use `infer`",
    "generate_stream": "the generate extension is not implemented: use `infer`",
}
log = get_logger(__name__)


class KserveRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        asks_for_a_key = self.path not in _OPEN

        async def answered(request: Request) -> Response:
            try:
                if asks_for_a_key:
                    request.state.tenant = request.app.state.services.tenants.tenant(request.headers)
                return await handle(request)
            except ClientDisconnect:
                raise
            except FleetError as error:
                return refused(error)
            except HTTPException as error:
                return refusal(error.status_code, str(error.detail), dict(error.headers or {}))
            except Exception:
                log.exception("request failed", route=self.path)
                detail = "Fleet failed here: the traceback is in the server's log under this request id"
                return refusal(
                    HTTPStatus.INTERNAL_SERVER_ERROR, detail, {"x-request-id": str(request.state.request_id)}
                )

        return answered


def kserve_router() -> APIRouter:
    """Its contract is KServe's and Triton's own, so it is not part of our OpenAPI document."""
    return APIRouter(route_class=KserveRoute, include_in_schema=False)


def with_the_rest(known: APIRouter) -> APIRouter:
    """The routes, and behind them one for every other path under the prefix, so that it answers in the same form."""
    rest, whole = kserve_router(), kserve_router()

    @rest.api_route(PREFIX, methods=list(_METHODS))
    @rest.api_route(f"{PREFIX}/{{rest:path}}", methods=list(_METHODS))
    async def anything_else(request: Request, rest: str = "") -> Response:
        """404, 405 or 501."""
        reason = _not_implemented(rest)
        if reason is not None:
            return refusal(HTTPStatus.NOT_IMPLEMENTED, reason)
        allowed = _allowed(known, request)
        if allowed:
            detail = f"{request.method} is not possible at {request.url.path}: use {' or '.join(allowed)}"
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, detail, {"allow": ", ".join(allowed)})
        return refusal(HTTPStatus.NOT_FOUND, f"there is nothing at {request.url.path}")

    whole.include_router(known)
    whole.include_router(rest)
    return whole


def _not_implemented(rest: str) -> str | None:
    match rest.split("/"):
        case ["repository", "index"] | ["repository", "models", *_]:
            return None
        case ["repository", _, *_]:
            return "the model repositories have no names here: use /v2/repository/index and /v2/repository/models/..."
        case ["models", _, kind, *_] if kind in _NOT_OF_A_MODEL:
            return _NOT_OF_A_MODEL[kind]
        case ["models", _, "versions", _, kind, *_] if kind in _NOT_OF_A_MODEL:
            return _NOT_OF_A_MODEL[kind]
        case [kind, *_]:
            return _NOT_HERE.get(kind)
    return None


def _allowed(known: APIRouter, request: Request) -> list[str]:
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in known.routes)
    ]
