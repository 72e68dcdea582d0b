"""The kinds of route that this dialect is made of: they ask who calls, and answer every error in their own form."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from api.openai.forms import openai_form, short_form
from api.openai.refusal import Refusal, internal_error, refusal_of
from fleet.errors import FleetError, NotFound
from fleet.logs import get_logger

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
log = get_logger(__name__)


class FormRoute(APIRoute):
    """A subclass says in which form errors are answered."""

    @staticmethod
    def form(refusal: Refusal) -> Response:
        raise NotImplementedError

    @staticmethod
    def caller(request: Request) -> str:
        """The tenant. Raises Unauthorized."""
        return cast(str, request.app.state.services.tenants.tenant(request.headers))

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        form, caller = self.form, self.caller

        async def answered(request: Request) -> Response:
            try:
                request.state.tenant = caller(request)
                return await handle(request)
            except ClientDisconnect:
                raise
            except FleetError as error:
                return form(refusal_of(error))
            except HTTPException as error:
                code = f"http-{error.status_code}"
                return form(
                    Refusal(HTTPStatus(error.status_code), code, str(error.detail), headers=error.headers or {})
                )
            except Exception:
                log.exception("request failed", route=self.path)
                return form(internal_error())

        return answered


class OpenAIRoute(FormRoute):
    @staticmethod
    def form(refusal: Refusal) -> Response:
        return openai_form(refusal)


class ShortRoute(FormRoute):
    @staticmethod
    def form(refusal: Refusal) -> Response:
        return short_form(refusal)


def form_router(kind: type[FormRoute]) -> APIRouter:
    """Of routes whose contract is another's, and is not part of our OpenAPI document."""
    return APIRouter(route_class=kind, include_in_schema=False)


def with_the_rest(known: APIRouter, kind: type[FormRoute], prefix: str) -> APIRouter:
    """The routes, and behind them one for every other path under the prefix, so that it answers in the same form."""
    rest, whole = form_router(kind), form_router(kind)

    @rest.api_route(prefix, methods=list(_METHODS))
    @rest.api_route(f"{prefix}/{{rest:path}}", methods=list(_METHODS))
    async def anything_else(request: Request) -> Response:
        """404 or 405."""
        where = f"{request.method} {request.url.path}"
        allowed = _allowed(known, request)
        if not allowed:
            raise NotFound(f"there is nothing at {where}")
        message = f"{where} is not possible: use {' or '.join(allowed)}"
        allow = {"allow": ", ".join(allowed)}
        return kind.form(Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", message, headers=allow))

    whole.include_router(known)
    whole.include_router(rest)
    return whole


def _allowed(known: APIRouter, request: Request) -> list[str]:
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in known.routes)
    ]
