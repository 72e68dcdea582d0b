"""A request's body on its way to the object store: to a file on disk, hashed while it arrives."""

import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from fleet.errors import DependencyError

#: Bytes that are hashed and written at a time, away from the event loop.
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Spooled:
    path: Path
    size: int
    sha256: str


@asynccontextmanager
async def spooled(request: Request) -> AsyncIterator[Spooled]:
    """The body as a temporary file, gone at the end of the block.

    Raises InputTooLarge (see `body_limit`), DependencyError `scratch-unavailable`.
    """
    with _disk_errors():
        file = await run_in_threadpool(_temporary_file)
    try:
        with _disk_errors():
            size, digest = await _receive(request, file)
        yield Spooled(Path(file.name), size, digest)
    finally:
        await run_in_threadpool(file.close)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DependencyError(
            f"the server's temporary folder cannot take the upload: {error.strerror}", code="scratch-unavailable"
        ) from error


def _temporary_file() -> "tempfile._TemporaryFileWrapper[bytes]":
    return tempfile.NamedTemporaryFile(prefix="fleet-upload-")


async def _receive(request: Request, file: "tempfile._TemporaryFileWrapper[bytes]") -> tuple[int, str]:
    hasher, size = hashlib.sha256(), 0

    def keep(chunk: bytes) -> None:
        hasher.update(chunk)
        file.write(chunk)

    waiting = bytearray()
    async for chunk in request.stream():
        size += len(chunk)
        waiting += chunk
        if len(waiting) >= _CHUNK:
            await run_in_threadpool(keep, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(keep, bytes(waiting))
    await run_in_threadpool(file.flush)
    return size, hasher.hexdigest()
