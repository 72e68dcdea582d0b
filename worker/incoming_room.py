"""Room for files on their way to a scratch folder that may be memory: asked for as their sizes become known."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

#: Room that the files of a job shall have together from here on, in bytes. Raises as `Progress.admit`.
Hold = Callable[[int], object]
#: Of a file whose size nobody announced, so much more each time.
STEP_BYTES = 8 * 1024**2
#: After so long a server may have given up who asked it.
_LONG_S = 2.0


class IncomingRoom:
    """Of one job; thread-safe."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._asking = threading.Lock()
        self._lock = threading.Lock()
        self._files: dict[Path, int] = {}
        #: What was asked for last; read and written by who asks.
        self._held = 0

    def take(self, path: Path, size: int) -> bool:
        """Before a file grows to that size; False when that took so long that it had better be asked for anew.

        Raises as `Progress.admit`, and the file has the room that it had.
        """
        began = time.monotonic()
        if self._grows(path, size):
            with self._asking:
                self._ask(self._with(path, size))
                self._note(path, size)
            return time.monotonic() - began < _LONG_S
        return True

    def settle(self, path: Path, size: int) -> None:
        """What the file has become, which is no more than it has room for; 0: it is gone."""
        with self._lock:
            if self._files.get(path, 0) == size:
                return
        self._note(path, size)
        # Else one of the others is waiting for more: the next request gives it back.
        if self._asking.acquire(blocking=False):
            try:
                self._ask(self._with(path, size))
            finally:
                self._asking.release()

    def settled(self) -> None:
        """Once no file comes any more: what could not be given back meanwhile is given back now."""
        with self._asking:
            with self._lock:
                have = sum(self._files.values())
            if have != self._held:
                self._ask(have)

    def _ask(self, size: int) -> None:
        self._hold(size)
        self._held = size

    def _grows(self, path: Path, size: int) -> bool:
        with self._lock:
            return size > self._files.get(path, 0)

    def _with(self, path: Path, size: int) -> int:
        with self._lock:
            return sum((self._files | {path: size}).values())

    def _note(self, path: Path, size: int) -> None:
        with self._lock:
            self._files[path] = size
