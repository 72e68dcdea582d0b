"""The kind of route that the native API is made of: asks who calls before it reads a byte, and reads JSON strictly."""

import email.message
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.datastructures import Headers

from api.problems import Problem
from fleet.errors import UnsupportedMedia


class GuardedRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        reads_json = self.body_field is not None
        may_be_empty = self.body_field is not None and not self.body_field.field_info.is_required()

        async def guarded(request: Request) -> Response:
            request.state.tenant = request.app.state.services.tenants.tenant(request.headers)
            if reads_json and not is_json(request.headers) and not (may_be_empty and _is_empty(request.headers)):
                raise UnsupportedMedia("the body must be JSON: send `Content-Type: application/json`")
            strict = _StrictRequest(request.scope, request.receive)
            if reads_json:
                # Here, since the framework would make a 400 of a body that is too large.
                await strict.body()
            return await handle(strict)

        return guarded


class _StrictRequest(Request):
    async def json(self) -> Any:
        """Unlike the standard library this refuses NaN, Infinity, lone surrogates and endless nesting."""
        return orjson.loads(await self.body())


def _is_empty(headers: Headers) -> bool:
    return "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"


def is_json(headers: Headers) -> bool:
    said = headers.get("content-type", "application/octet-stream")
    if said == "application/json":
        # As nearly everybody writes it.
        return True
    message = email.message.Message()
    message["content-type"] = said
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def guarded_router(prefix: str, tag: str) -> APIRouter:
    """A router of such routes. The two schemes only document what the route does itself."""
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=GuardedRoute,
        dependencies=[
            Security(HTTPBearer(auto_error=False, scheme_name="bearer")),
            Security(APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="key")),
        ],
        responses=problems(401, 422, 503),
    )


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: the errors that a route may answer."""
    return {status: {"model": Problem} for status in statuses}
