"""How many runs of a model that are not joined use a CPU at a time: more than its cores would only hinder them."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fleet.contracts import Priority
from worker.engine.batch_queue import PASSED_OVER
from worker.stop import StopToken


@dataclass(eq=False)
class _Waiting:
    priority: Priority
    number: int
    #: How many had been let in when it came.
    after: int
    #: Rung once it is inside, or is not wanted any more.
    bell: threading.Event = field(default_factory=threading.Event)
    inside: bool = False


class Places:
    """Thread-safe. Who waits is let in by priority, then in the order of coming; nobody is passed over for ever."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count()
        self._let_in_so_far = 0

    @contextmanager
    def one(self, stop: StopToken, priority: Priority) -> Iterator[None]:
        """A place while the block runs. Raises RunStopped as soon as the token is set while it waits for one."""
        with self._lock:
            mine = _Waiting(priority, next(self._numbers), self._let_in_so_far)
            self._waiting.append(mine)
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
                self._let_in()

    def _let_in(self) -> None:
        while self._free and self._waiting:
            first = min(self._waiting, key=self._rank)
            self._waiting.remove(first)
            self._free -= 1
            self._let_in_so_far += 1
            first.inside = True
            first.bell.set()

    def _rank(self, waiting: _Waiting) -> tuple[int, int]:
        passed_over = self._let_in_so_far - waiting.after >= PASSED_OVER
        return (Priority.URGENT if passed_over else waiting.priority, waiting.number)
