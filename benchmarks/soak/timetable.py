"""What is to be done when: steps by the soak's clock, each run once by whoever calls `run_due` often."""

import heapq
from collections.abc import Callable

from soak.ledger import Clock

Step = Callable[[], None]


class Timetable:
    """Used by one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps: list[tuple[float, int, Step]] = []
        self._count = 0

    def at(self, at_s: float, step: Step) -> None:
        """At that second of the soak."""
        self._count += 1
        heapq.heappush(self._steps, (at_s, self._count, step))

    def after(self, seconds: float, step: Step) -> None:
        """So many seconds from now."""
        self.at(self._clock.now() + seconds, step)

    def run_due(self) -> None:
        while self._steps and self._steps[0][0] <= self._clock.now():
            _, _, step = heapq.heappop(self._steps)
            step()

    def clear(self) -> None:
        self._steps.clear()
