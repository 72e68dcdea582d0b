"""The leader's last look at the queues, as requests need it: read from the record at most once a second."""

import threading
import time

from fleet.errors import DependencyError
from fleet.traffic import Traffic, TrafficBoard

_KEEP_S = 1.0
#: An older look says nothing of now: nobody leads.
STALE_S = 15.0


class TrafficReader:
    """Thread-safe: while one thread reads, the others go by what was read before."""

    def __init__(self, board: TrafficBoard) -> None:
        self._board = board
        self._reading = threading.Lock()
        self._read_at = float("-inf")
        self._seen: tuple[Traffic, float] | None = None

    def now(self) -> Traffic | None:
        """What the leader saw last; None when that is more than fifteen seconds ago, or cannot be read."""
        if time.monotonic() - self._read_at > _KEEP_S and self._reading.acquire(blocking=self._seen is None):
            try:
                self._read()
            finally:
                self._reading.release()
        seen = self._seen
        return seen[0] if seen is not None and time.monotonic() < seen[1] else None

    def _read(self) -> None:
        if time.monotonic() - self._read_at <= _KEEP_S:
            return
        asked_at = time.monotonic()
        try:
            found = self._board.read()
        except DependencyError:
            # Whoever asks will notice at his own statement; what was read before is good for a while.
            found = None
        self._read_at = asked_at
        if found is not None:
            traffic, age_s = found
            self._seen = traffic, asked_at + STALE_S - age_s
