"""Those whom a run has just answered are about to call again: a moment for them, before the next run begins."""

import time
from collections.abc import Callable

#: Of the time that the last run took.
_SHARE = 0.1


class Returning:
    """Of one batcher. Threads may race here: what they get wrong is who waits for a moment."""

    def __init__(self) -> None:
        self._calls = 0
        self._until = 0.0

    def answered(self, calls: int, took_s: float) -> None:
        """A run of so many calls has ended now."""
        self._calls, self._until = calls, time.monotonic() + _SHARE * took_s

    def wait(self, waiting: Callable[[], int]) -> None:
        """Gives up the interpreter as long as that brings somebody; `waiting` counts who waits besides the caller.

        Without this the first to come back runs alone and the others after it: half as many rows a run, measured with
        8 to 64 threads. Who was alone in the last run does not wait, and nobody waits longer than a tenth of that run.
        """
        came = -1
        while came < (come := waiting()) < self._calls - 1 and time.monotonic() < self._until:
            came = come
            # The interpreter's lock goes to those who want it.
            time.sleep(0)
