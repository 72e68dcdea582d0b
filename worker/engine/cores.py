"""Whose the cores are: a run that is alone in its process may use all of them, and several share them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Threads of a run that is alone, at most: beyond that they wait for each other more than they do.
MOST_THREADS = 8
#: Weights of a model that are held twice for it, at most: so many are little beside what is set aside for its loading.
MOST_TWICE_HELD_BYTES = 32 * 1024**2
#: Runs from so long on gain by it: to wake idle threads takes as long as all of a short one.
_LONG_S = 0.012
#: Of a size, before it is known how long they take.
_FIRST_RUNS = 3
#: What was seen once is forgotten after a hundred runs that were slower.
_FORGET = 1.02


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
    """How long the runs of a session take on threads that they share, by the size of what they are fed.

    Threads may race here: a run is not counted.
    """

    def __init__(self) -> None:
        #: By the number of binary digits of the elements: runs, and the fastest's seconds.
        self._seen: dict[int, tuple[int, float]] = {}

    def learn(self, elements: int, seconds: float) -> None:
        """elements: of all that was fed."""
        runs, fastest = self._seen.get(elements.bit_length(), (0, seconds))
        # The fastest: beside other runs one takes longer.
        self._seen[elements.bit_length()] = (runs + 1, min(seconds, fastest * _FORGET))

    def are_long(self, elements: int) -> bool:
        """Whether a run on so many takes long enough to gain by more threads."""
        runs, fastest = self._seen.get(elements.bit_length(), (0, 0.0))
        return runs >= _FIRST_RUNS and fastest >= _LONG_S
