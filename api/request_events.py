"""The outermost layer of every request: its id, its one line in the log, its figures, and the last catch.

Logged are method, route template, status, seconds and tenant; never a query, a header, a body or a file name.
"""

import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.headers import request_id
from api.measures import Measures
from api.problems import internal_error
from fleet.logs import get_logger

#: As nginx logs it: the caller went away before the answer.
_CLIENT_GONE = 499
#: Asked every few seconds by machines: of no interest in a log while all is well.
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})
log = get_logger(__name__)


class RequestEvents:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        identity = request_id(Headers(scope=scope))
        state = scope.setdefault("state", {})
        state["request_id"] = identity
        status = 0

        async def identified(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = identity
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=identity):
            try:
                await self._app(scope, receive, identified)
            except ClientDisconnect:
                status = status or _CLIENT_GONE
            except Exception:
                log.exception("request failed", method=scope["method"], route=_route(scope))
                if status:
                    raise
                await internal_error(Request(scope))(scope, receive, identified)
            finally:
                self._tell(scope, status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _route(scope), scope["method"]
        self._measures.request_answered(route, method, status, seconds)
        tell = log.debug if route in _QUIET and status < 500 else log.info
        tell(
            "request",
            method=method,
            route=route,
            status=status,
            seconds=round(seconds, 4),
            tenant=scope["state"].get("tenant"),
        )


def _route(scope: Scope) -> str:
    """The template, for instance `/api/v1/jobs/{job_id}`: bounded, and without anything that a caller wrote."""
    return getattr(scope.get("route"), "path", None) or "unmatched"
