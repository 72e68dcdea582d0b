"""What can be sent, made into one kind of thing: bytes with a name, a size and a SHA-256."""

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, TypeAlias, cast

from fleet_client.errors import InputUnusable
from fleet_client.folders import zip_folder

#: A path to a file, or to a folder of DICOM files or of pictures, bytes, or a file opened for reading bytes.
Sendable: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | IO[bytes]

_CHUNK = 1024 * 1024
_MEDIA_TYPES = {
    ".gz": "application/gzip",
    ".zip": "application/zip",
    ".dcm": "application/dicom",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
    ".txt": "text/plain",
}
#: Media types of pictures.
PICTURES = frozenset(kind for kind in _MEDIA_TYPES.values() if kind.startswith("image/"))
#: How pictures begin whose name, if they have one, says nothing.
_BEGINNINGS = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))


@dataclass
class Source:
    """An input that is ready to be sent, any number of times. Close it after use."""

    name: str
    media_type: str
    #: Bytes.
    size: int
    sha256: str
    _stream: BinaryIO
    _start: int
    _ours: bool

    def chunks(self, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """`size` bytes from `offset`. Raises InputUnusable when the file became shorter meanwhile."""
        left = self.size - offset if size is None else size
        self._stream.seek(self._start + offset)
        while left > 0:
            chunk = self._stream.read(min(_CHUNK, left))
            if not chunk:
                raise InputUnusable(f"{self.name} became shorter while it was sent: {left} bytes are missing")
            left -= len(chunk)
            yield chunk

    def close(self) -> None:
        if self._ours:
            self._stream.close()

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_source(what: Sendable, name: str | None = None) -> Source:
    """Opens and measures an input; `name` overrides the name that it is known by. Raises InputUnusable."""
    if isinstance(what, bytes | bytearray | memoryview):
        return _measured(io.BytesIO(what), name or "input", ours=True)
    if isinstance(what, str | os.PathLike):
        return _open_path(Path(what), name)
    if not hasattr(what, "read"):
        raise InputUnusable(f"cannot send a {type(what).__name__}: give a path, bytes, or a file opened with 'rb'")
    stream = cast(BinaryIO, what)
    known_as = getattr(what, "name", None)
    if name is None:
        name = Path(known_as).name if isinstance(known_as, str) else "input"
    if stream.seekable():
        return _measured(stream, name, ours=False)
    return _measured(_spooled(stream), name, ours=True)


def _open_path(path: Path, name: str | None) -> Source:
    path = path.expanduser()
    try:
        if path.is_dir():
            return _measured(zip_folder(path), name or f"{path.resolve().name or 'folder'}.zip", ours=True)
        stream = path.open("rb")
    except OSError as error:
        raise InputUnusable(f"{error.filename or path} cannot be read: {error.strerror or error}") from error
    if stream.seekable():
        return _measured(stream, name or path.name, ours=True)
    with stream:
        return _measured(_spooled(stream), name or path.name, ours=True)


def _spooled(stream: BinaryIO) -> BinaryIO:
    """What a pipe gives, in a file that can be read again."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    while chunk := _read(stream):
        file.write(chunk)
    file.seek(0)
    return cast(BinaryIO, file)


def _measured(stream: BinaryIO, name: str, *, ours: bool) -> Source:
    start, size, digest, begin = stream.tell(), 0, hashlib.sha256(), b""
    try:
        while chunk := _read(stream):
            begin = begin or chunk[:8]
            size += len(chunk)
            digest.update(chunk)
        if size == 0:
            raise InputUnusable(f"{name} is empty")
    except BaseException:
        if ours:
            stream.close()
        raise
    return Source(
        name=_safe(name),
        media_type=_media_type(name, begin),
        size=size,
        sha256=digest.hexdigest(),
        _stream=stream,
        _start=start,
        _ours=ours,
    )


def _media_type(name: str, begin: bytes) -> str:
    told = _MEDIA_TYPES.get(Path(name).suffix.lower())
    return told or next((kind for sign, kind in _BEGINNINGS if begin.startswith(sign)), "application/octet-stream")


def _read(stream: BinaryIO) -> bytes:
    try:
        chunk: object = stream.read(_CHUNK)
    except OSError as error:
        raise InputUnusable(f"the input cannot be read: {error.strerror or error}") from error
    if isinstance(chunk, str):
        raise InputUnusable("the file was opened for reading text: open it with 'rb'")
    return cast(bytes, chunk)


def _safe(name: str) -> str:
    """As the server takes it: text without separators and control characters, at most 255 of them, suffix kept."""
    return re.sub(r"[/\\\x00-\x1f\ud800-\udfff]", "_", name)[-255:]
