"""`WORKER_READY_FILE` of several processes: by it others see that all of them take jobs.

As that of a single worker (`worker/pulse.py`), with the watcher's process id; it is away while one of them is.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

_BEAT_S = 5.0
_DRAINING = "draining"


class SharedPulse:
    """Without a path it does nothing. A full disk must not end the watcher: then the file is what it was."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._shown: str | None = None
        self._beat_at = 0.0
        self.end()

    def show(self, *, takes_jobs: bool, draining: bool) -> None:
        """Call it a few times a second; once it drains it stays so."""
        if draining:
            wanted = _DRAINING if self._shown is not None else None
        else:
            wanted = str(os.getpid()) if takes_jobs else None
        now = time.monotonic()
        if self._path is None or (wanted == self._shown and (wanted is None or now < self._beat_at)):
            return
        with suppress(OSError):
            if wanted is None:
                self._path.unlink(missing_ok=True)
            elif wanted == self._shown:
                os.utime(self._path)
            else:
                self._path.write_text(wanted, "ascii")
            self._shown, self._beat_at = wanted, now + _BEAT_S

    def end(self) -> None:
        """Also at the start: a killed watcher may have left it."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
