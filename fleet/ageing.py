"""Ageing: a job that has outwaited its class goes one priority up, so that nothing waits for ever.

A flood of old jobs must not drown the class above: only a few of them are in it at a time, the oldest first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet.contracts import Lane, Priority


@dataclass(frozen=True)
class Budgets:
    """Seconds that a job may wait in a class before it goes one up; urgent jobs have nowhere to go."""

    high_s: float
    normal_s: float
    low_s: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Budgets":
        """From a setting: high, normal, low."""
        high_s, normal_s, low_s = seconds
        return cls(high_s, normal_s, low_s)

    def before_leaving(self, now_in: Priority) -> dict[Priority, float]:
        """asked priority -> seconds of waiting in all after which a job that is in this class now leaves it upwards.

        A job that was asked for as low spends its time as low first, then as normal, and so on.
        """
        own = {Priority.HIGH: self.high_s, Priority.NORMAL: self.normal_s, Priority.LOW: self.low_s}
        return {
            asked: sum(own[rank] for rank in Priority if now_in <= rank <= asked)
            for asked in Priority
            if asked >= now_in and now_in is not Priority.URGENT
        }


def guests(slots: int) -> int:
    """How many aged jobs may wait in a class at once: one for each slot that serves it, but one in any case."""
    return max(1, slots)


BudgetsByLane = Mapping[Lane, Budgets]
