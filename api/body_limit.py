"""No body is larger than it may be: counted while it arrives, with or without a Content-Length."""

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.errors import InputTooLarge

_KEY = "fleet.body_limit"


@dataclass
class _Limit:
    max_bytes: int


class BodyLimit:
    """ASGI middleware. A route that streams its body may allow more with `allow_body`, before it reads any."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = scope[_KEY] = _Limit(self._max_body_bytes)
        announced = content_length(Headers(scope=scope)) or 0
        arrived = 0

        async def limited() -> Message:
            nonlocal arrived
            if announced > limit.max_bytes:
                raise _too_large(limit)
            message = await receive()
            if message["type"] == "http.request":
                arrived += len(message.get("body", b""))
                if arrived > limit.max_bytes:
                    raise _too_large(limit)
            return message

        await self._app(scope, limited, send)


def allow_body(scope: Scope, max_bytes: int) -> None:
    """Sets the limit of this one request."""
    scope[_KEY].max_bytes = max_bytes


def content_length(headers: Headers) -> int | None:
    """The announced size of the body; None when it comes in chunks."""
    sent = headers.get("content-length", "")
    return int(sent) if sent.isascii() and sent.isdigit() else None


def _too_large(limit: _Limit) -> InputTooLarge:
    return InputTooLarge(
        f"the body is larger than {limit.max_bytes} bytes, which is the most that is taken here",
        max_bytes=limit.max_bytes,
    )
