"""The body of a request under /v2: inflated, limited, and in memory only while it is small."""

import mmap
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO

import orjson
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api.body_limit import allow_body
from fleet.errors import CorruptInput, DependencyError, InputTooLarge, MalformedRequest, UnsupportedMedia

#: A larger body lies in a file that has no name, and is read where it lies.
IN_MEMORY_BYTES = 1024 * 1024
#: zlib's way to say which wrapping it is.
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def received(request: Request, max_bytes: int) -> memoryview:
    """The whole body, inflated. `max_bytes` holds for what arrives and for what that inflates to.

    Raises InputTooLarge, UnsupportedMedia for another coding, CorruptInput, DependencyError `scratch-unavailable`.
    """
    allow_body(request.scope, max_bytes)
    body = _Body(_inflater(request.headers.get("content-encoding", ""), max_bytes))
    waiting = bytearray()
    try:
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= IN_MEMORY_BYTES:
                await run_in_threadpool(body.take, bytes(waiting))
                waiting.clear()
        if body.untouched and not body.inflates:
            return memoryview(bytes(waiting))
        return await run_in_threadpool(body.whole, bytes(waiting))
    finally:
        body.close()


async def received_json(request: Request, max_bytes: int = IN_MEMORY_BYTES) -> dict[str, object]:
    """The members of a small JSON object; an empty body is an empty object."""
    body = await received(request, max_bytes)
    try:
        document = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not JSON: {error}", code="invalid-json") from error
    if not isinstance(document, dict):
        raise MalformedRequest("the body must be a JSON object", code="invalid-json")
    return document


class Inflater:
    """One compressed stream, and never more bytes of it than are allowed."""

    def __init__(self, coding: str, max_bytes: int) -> None:
        self._coding = coding
        self._max_bytes = max_bytes
        self._stream = zlib.decompressobj(_WINDOWS[coding])
        self._size = 0

    def inflated(self, data: bytes) -> Iterator[bytes]:
        """In pieces that memory can hold. Raises CorruptInput `compression-damaged`, InputTooLarge."""
        while True:
            if self._stream.eof:
                if data:
                    raise self._damaged("bytes follow after its end")
                return
            try:
                plain = self._stream.decompress(data, IN_MEMORY_BYTES)
            except zlib.error as error:
                raise self._damaged(str(error)) from error
            self._size += len(plain)
            if self._size > self._max_bytes:
                raise InputTooLarge(
                    f"the body inflates to more than {self._max_bytes} bytes, which is the most that is taken here",
                    max_bytes=self._max_bytes,
                )
            yield plain
            data = self._stream.unconsumed_tail or self._stream.unused_data
            # A full piece may have left more inside although all input was taken.
            if not data and len(plain) < IN_MEMORY_BYTES:
                return

    def check_ended(self) -> None:
        if not self._stream.eof:
            raise self._damaged("it ends too early")

    def _damaged(self, why: str) -> CorruptInput:
        return CorruptInput(f"the body is no whole {self._coding} stream: {why}", code="compression-damaged")


class _Body:
    """Takes what arrives; moves to a file when it has become large."""

    def __init__(self, inflater: Inflater | None) -> None:
        self._inflater = inflater
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    @property
    def untouched(self) -> bool:
        return self._file is None and not self._memory

    @property
    def inflates(self) -> bool:
        return self._inflater is not None

    def take(self, data: bytes) -> None:
        try:
            for plain in [data] if self._inflater is None else self._inflater.inflated(data):
                self._keep(plain)
        except OSError as error:
            raise _no_room(error) from error

    def _keep(self, plain: bytes) -> None:
        if self._file is None and len(self._memory) + len(plain) > IN_MEMORY_BYTES:
            self._file = tempfile.TemporaryFile(prefix="fleet-body-")  # noqa: SIM115 (closed by `close`)
            self._file.write(self._memory)
            self._memory.clear()
        if self._file is None:
            self._memory += plain
        else:
            self._file.write(plain)

    def whole(self, rest: bytes) -> memoryview:
        self.take(rest)
        if self._inflater is not None:
            self._inflater.check_ended()
        return memoryview(bytes(self._memory)) if self._file is None else mapped(self._file)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def mapped(file: IO[bytes]) -> memoryview:
    """A file's bytes where they lie: for as long as they are used, whether or not the file is closed or gone."""
    try:
        file.flush()
        size = file.seek(0, 2)
        return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"")
    except OSError as error:
        raise _no_room(error) from error


def _inflater(coding: str, max_bytes: int) -> Inflater | None:
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in _WINDOWS:
        raise UnsupportedMedia(f"Content-Encoding: {coding[:64]!r} is not known here: use gzip, deflate or none")
    return Inflater(coding, max_bytes)


def _no_room(error: OSError) -> DependencyError:
    return DependencyError(
        f"the server's temporary folder cannot take the body: {error.strerror}", code="scratch-unavailable"
    )
