"""How many runs of a model use a CPU at a time, where they are not joined: more than its cores would only hinder them.

Eight runs of YOLO11n at once on two cores take a fifth more processor time each than two at once do.
"""

import heapq
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fleet.contracts import Priority
from worker.stop import StopToken


@dataclass(order=True)
class _Waiting:
    priority: Priority
    number: int
    #: Rung once it is inside, or is not wanted any more.
    bell: threading.Event = field(default_factory=threading.Event, compare=False)
    inside: bool = field(default=False, compare=False)


class Places:
    """Thread-safe. Who waits is let in by priority, then in the order of coming."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count()

    @contextmanager
    def one(self, stop: StopToken, priority: Priority) -> Iterator[None]:
        """A place while the block runs. Raises RunStopped as soon as the token is set while it waits for one."""
        mine = _Waiting(priority, next(self._numbers))
        with self._lock:
            heapq.heappush(self._waiting, mine)
            self._let_in()
        try:
            if not mine.inside:
                with stop.calling(mine.bell.set):
                    mine.bell.wait()
                stop.check()
            yield
        finally:
            with self._lock:
                if mine.inside:
                    self._free += 1
                else:
                    self._waiting.remove(mine)
                    heapq.heapify(self._waiting)
                self._let_in()

    def _let_in(self) -> None:
        while self._free and self._waiting:
            first = heapq.heappop(self._waiting)
            self._free -= 1
            first.inside = True
            first.bell.set()
