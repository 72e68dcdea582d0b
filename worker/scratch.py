"""Scratch folders: one per worker process, gone with it, and swept by the next one when it was killed."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fleet.contracts import Job
from fleet.logs import get_logger

_PREFIX = "fleet-worker-"
_LOCK = ".lock"
log = get_logger(__name__)


@contextmanager
def job_folder(base: Path, job: Job) -> Iterator[Path]:
    """Where one attempt puts its files; gone with it. Who writes one makes the folder: small jobs need none."""
    folder = base / f"fleet-job-{job.id}-{job.attempt}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Scratch:
    """A folder of this process under `root` (default: the system's). Its lock tells that its owner lives."""

    def __init__(self, root: Path | None) -> None:
        base = root or Path(tempfile.gettempdir())
        base.mkdir(parents=True, exist_ok=True)
        _sweep(base)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        self._lock = _locked(self.folder)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


def _sweep(base: Path) -> None:
    """Removes what killed workers left: volumes, that is, and patients' data."""
    for folder in base.glob(f"{_PREFIX}*"):
        if not (folder / _LOCK).is_file():
            continue
        lock = _locked(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()
            log.info("scratch of a killed worker removed", folder=folder.name)


def _locked(folder: Path) -> IO[str] | None:
    """The open lock, or None when another process has it."""
    try:
        lock = (folder / _LOCK).open("a")
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock
