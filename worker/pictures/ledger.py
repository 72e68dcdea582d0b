"""What all lanes of a job hold together, since a run has one request for memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from worker.contract import Progress

#: Up to here a run need not ask for memory.
SMALL_BYTES = 8 * 1024**2


class Admit(Protocol):
    """Asks for memory, and for files on the worker's disk: `what` begins the sentence of a refusal."""

    def __call__(self, what: str, peak_bytes: int, scratch_bytes: int = 0) -> None: ...


class Ledger:
    """Thread-safe. Who asks for more may wait; who gives back never does, whoever waits meanwhile.

    Else two jobs could wait for each other: each with a picture that it no longer needs, and can not say so.
    """

    def __init__(self, progress: Progress, scratch_bytes: int) -> None:
        self._progress = progress
        #: Held while one asks for more.
        self._growing = threading.Lock()
        self._lock = threading.Lock()
        self._held = 0
        self._scratch = scratch_bytes
        self._asked = (0, scratch_bytes)
        #: Of requests that were made smaller: they take the place of one that is granted meanwhile.
        self._returns = 0

    def take(self, what: str, count: int) -> None:
        """Until the end of the job. Raises as `Progress.admit`."""
        self._grow(what, count, 0)

    @contextmanager
    def part(self) -> Iterator[Admit]:
        """Of one picture; given back at the end of the block. A second request replaces the first."""
        mine, files = 0, 0

        def admit(what: str, peak_bytes: int, scratch_bytes: int = 0) -> None:
            nonlocal mine, files
            change = peak_bytes - mine, scratch_bytes - files
            if max(change) > 0:
                self._grow(what, *change)
            else:
                self._give_back(*change)
            mine, files = peak_bytes, scratch_bytes

        try:
            yield admit
        finally:
            self._give_back(-mine, -files)

    def _grow(self, what: str, count: int, scratch: int) -> None:
        with self._growing:
            while True:
                with self._lock:
                    returns = self._returns
                    wanted = self._request(count, scratch)
                    asks = wanted != self._asked
                if asks:
                    self._progress.admit(what, wanted[0], scratch_bytes=wanted[1])
                with self._lock:
                    if returns == self._returns:
                        self._note(count, scratch)
                        return

    def _give_back(self, count: int, scratch: int) -> None:
        if not count and not scratch:
            return
        with self._lock:
            wanted = self._request(count, scratch)
            if wanted != self._asked:
                self._returns += 1
                # Less than before is granted at once.
                self._progress.admit("", wanted[0], scratch_bytes=wanted[1])
            self._note(count, scratch)

    def _request(self, count: int, scratch: int) -> tuple[int, int]:
        held = self._held + count
        return held if held > SMALL_BYTES else 0, self._scratch + scratch

    def _note(self, count: int, scratch: int) -> None:
        self._asked = self._request(count, scratch)
        self._held += count
        self._scratch += scratch
