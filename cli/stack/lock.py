"""One supervisor per data folder: a lock that the kernel drops with the process that held it."""

import fcntl
import os
from pathlib import Path

from fleet.errors import Conflict


class DataLock:
    """Held from `take` to `release`; the file holds the holder's pid, for messages."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def take(self) -> None:
        """Raises Conflict `data-in-use` at once when another process holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise Conflict(
                f"a stack already runs on {self._path.parent} (process {holder or 'unknown'}): look with "
                "`fleet status`, stop it with `fleet down`, or choose another folder with --data",
                code="data-in-use",
                pid=holder,
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
