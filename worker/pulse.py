"""The file by which others see that a worker takes jobs, and that it is alive.

It holds the process id while jobs are being taken and the word `draining` after that; its time is that of the last
sign of life. It is there from the first moment at which jobs are taken to the end of the process.
"""

import os
from contextlib import suppress
from pathlib import Path

from fleet.logs import get_logger

log = get_logger(__name__)
DRAINING = "draining"
#: Seconds between two signs of life.
BEAT_S = 5.0


class Pulse:
    """Without a path it does nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def consuming(self) -> None:
        self._write(str(os.getpid()))

    def draining(self) -> None:
        # Not for a process that never took jobs: nobody waits for its end.
        if self._path is not None and self._path.exists():
            self._write(DRAINING)

    def beat(self) -> None:
        if self._path is not None:
            # Before the first job and after the last there is none; and a full disk must not keep anybody from ending.
            with suppress(OSError):
                os.utime(self._path)

    def end(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        if self._path is not None:
            try:
                self._path.write_text(text, "ascii")
            except OSError as error:
                log.warning("ready file not written", path=str(self._path), reason=error.strerror)
