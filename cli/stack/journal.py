"""What the supervisor did and when: one line per event in `logs/supervisor.log`, and to whoever listens."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cli.stack.logs import open_log

Listener = Callable[[str], None]


class Journal:
    """`journal.write("valkey ended", code=-9, again_in_s=0.5)`; values are facts, never secrets."""

    def __init__(self, path: Path, listener: Listener | None = None) -> None:
        self._path = path
        self._listener = listener

    def write(self, event: str, **facts: object) -> None:
        told = " ".join([event, *(f"{name}={_one_line(value)}" for name, value in facts.items())])
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        # Opened for each line: rare, and nothing is held that a rotation or a fork could disturb.
        # A full disk must not end the supervisor: then the line is only told.
        with suppress(OSError):
            descriptor = open_log(self._path)
            try:
                os.write(descriptor, f"{moment} {told}\n".encode())
            finally:
                os.close(descriptor)
        if self._listener is not None:
            self._listener(told)


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
