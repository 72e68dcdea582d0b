"""Remembers for a moment that a server did not answer, so that one caller waits for it and not each."""

import threading
import time
from collections.abc import Callable


class Breaker:
    """After a failure nobody asks for `rest_s` seconds; then one caller tries, and the others go on resting.

    Thread-safe. `clock` gives seconds that only grow.
    """

    def __init__(self, rest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest_s = rest_s
        self._clock = clock
        self._lock = threading.Lock()
        #: Until when to rest; None while the server answers.
        self._until: float | None = None

    @property
    def resting(self) -> bool:
        until = self._until
        return until is not None and self._clock() < until

    def may_try(self) -> bool:
        """False while resting. True begins a new rest for the others where the last word was a failure."""
        with self._lock:
            if self.resting:
                return False
            if self._until is not None:
                self.failed()
            return True

    def failed(self) -> None:
        self._until = self._clock() + self._rest_s

    def answered(self) -> None:
        self._until = None
