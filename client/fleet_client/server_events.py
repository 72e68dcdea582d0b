"""Server-sent events, read from the bytes as they arrive (WHATWG HTML Living Standard, section 9.2).

Read here and not by httpx's lines, since those also break where JSON may hold a U+2028.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerEvent:
    """`data` is the text of the event as UTF-8; `id` that of the last event which had one."""

    id: str
    name: str
    data: bytes


class EventReader:
    """`feed` it the pieces of one stream, however they are cut."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._id = ""
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that this piece completes."""
        self._pieces.append(piece)
        if b"\n" not in piece and b"\r" not in piece:
            return
        lines = b"".join(self._pieces).splitlines(keepends=True)
        # An unfinished line waits for the next piece, and so does a CR, which may be the first half of CR LF.
        self._pieces = [] if lines[-1].endswith(b"\n") else [lines.pop()]
        for line in lines:
            if content := line.rstrip(b"\r\n"):
                self._take(content)
            else:
                yield from self._completed()

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"data":
                self._data.append(value)
            case b"event":
                self._name = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")

    def _completed(self) -> Iterator[ServerEvent]:
        name, data = self._name or "message", self._data
        self._name, self._data = "", []
        if data:
            yield ServerEvent(self._id, name, b"\n".join(data))
