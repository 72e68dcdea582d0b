"""Whose the cores are: a run that is alone in its process may use all of them, and several share them."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Threads of a run that is alone, at most: beyond that they wait for each other more than they do.
MOST_THREADS = 8
#: Runs from so long on gain by it: to wake idle threads takes as long as all of a short one.
_LONG_S = 0.012
#: Of each session, before it is known how long they take.
_FIRST_RUNS = 3
#: Weights of a model that may be held twice for it, at most.
MOST_BYTES = 128 * 1024**2


class Cores:
    """Of one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Around a run: whether it was alone when it began."""
        with self._lock:
            self._running += 1
            alone = self._running == 1
        try:
            yield alone
        finally:
            with self._lock:
                self._running -= 1


class Lengths:
    """How long the runs of a session take on threads that they share. Threads may race here: a run is not counted."""

    def __init__(self) -> None:
        self._runs = 0
        self._element_s = math.inf

    def learn(self, elements: int, seconds: float) -> None:
        """elements: of all that was fed."""
        self._runs += 1
        # The fastest: beside other runs one takes longer.
        self._element_s = min(self._element_s, seconds / max(1, elements))

    def are_long(self, elements: int) -> bool:
        """Whether a run on so many would take long enough to gain by more threads."""
        return self._runs >= _FIRST_RUNS and elements * self._element_s >= _LONG_S
