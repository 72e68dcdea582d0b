"""What a worker's pulse says (see `worker/pulse.py`): whether it takes jobs, and whether it is frozen or only busy."""

import time
from pathlib import Path

from fleet.errors import DependencyError

#: Six beats that did not come.
_SILENT_S = 30.0


def takes_jobs(path: Path, pid: int) -> None:
    """The file names the process: it has written it, not a predecessor. Raises DependencyError."""
    try:
        content = path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise DependencyError("the worker does not consume yet", code="worker-not-ready") from error
    if content != str(pid):
        raise DependencyError(f"the worker's ready file says {content[:20]!r}", code="worker-not-ready")


class PulseCheck:
    """Call it with the process id every few seconds. Times are measured here: the file's own would follow the clock."""

    def __init__(self, path: Path, *, silent_s: float = _SILENT_S) -> None:
        self._path = path
        self._silent_s = silent_s
        self._seen: tuple[int, int] | None = None
        self._seen_at = 0.0

    def __call__(self, pid: int) -> None:
        """Raises DependencyError after a long silence. Before its first beat a process is not judged."""
        try:
            beat = (pid, self._path.stat().st_mtime_ns)
        except FileNotFoundError:
            self._seen = None
            return
        now = time.monotonic()
        if beat != self._seen:
            self._seen, self._seen_at = beat, now
        elif now - self._seen_at > self._silent_s:
            raise DependencyError(f"no sign of life for {now - self._seen_at:.0f} s", code="worker-silent")
