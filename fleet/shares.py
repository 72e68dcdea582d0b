"""Fair shares of a queue: how many messages each tenant may have in it; the rest waits in the record.

Queues are first in, first out, so every message waits equally long, and (Little's law) a tenant's part of the
throughput is its part of the messages. So a tenant of weight 2 may have twice the messages of one of weight 1, and
whoever comes later than ten thousand jobs of another waits behind one window of them.
"""

import heapq
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from fleet.contracts import Lane
from fleet.queues import QueueName

#: Messages of a tenant of weight 1, at least: more than the slots of a machine, few enough to be fair soon.
LEAST = {Lane.INTERACTIVE: 64, Lane.BULK: 8}
MOST = 4_000
#: A window is to last so many rounds of feeding, so that no worker waits for the next one.
_ROUNDS = 3.0
_FADING = 0.9
Item = TypeVar("Item")


class Windows:
    """Finds, queue by queue, the window that keeps the workers busy between two rounds. One round is one `fed`."""

    def __init__(self) -> None:
        self._sizes: dict[str, float] = {}

    def of(self, queue: str) -> int:
        return round(self._sizes.get(queue, self._least(queue)))

    @property
    def grown(self) -> dict[str, int]:
        """Those that are larger than the least."""
        return {queue: round(size) for queue, size in self._sizes.items()}

    def adopt(self, queue: str, size: int) -> None:
        """What the leader before had found."""
        if size > self._least(queue):
            self._sizes[queue] = min(MOST, size)

    def drained(self, queue: str, taken: float, *, emptied: bool) -> None:
        """So many messages were taken since the last round, for each tenant of weight 1 that takes part.

        `emptied`: and none was left, so that more might have been taken.
        """
        least, size = self._least(queue), self._sizes.get(queue, self._least(queue))
        needed = _ROUNDS * taken * (2.0 if emptied else 1.0)
        size = min(MOST, max(least, needed, size * _FADING))
        if size > least:
            self._sizes[queue] = size
        else:
            self._sizes.pop(queue, None)

    @staticmethod
    def _least(queue: str) -> float:
        return LEAST[QueueName.parse(queue).lane]


def window_of(window: int, weight: float) -> int:
    """Messages that a tenant of that weight may have; at least one."""
    return max(1, math.floor(window * weight + 0.5))


class Turns:
    """Whose turn it is to publish, queue by queue (start-time fair queueing, Goyal et al. 1996).

    A queue is a list, so what is in it stays in its order: shares are as even as what goes into it.
    """

    def __init__(self) -> None:
        #: queue -> tenant -> turns that it had, each counted by one over its weight.
        self._had: dict[str, dict[str, float]] = {}

    def give(self, queue: str, tenants: Collection[str], free: int, weights: Mapping[str, float]) -> dict[str, int]:
        """How many of so many places each of these tenants gets; they are all whose jobs wait."""
        before = self._had.get(queue, {})
        # Who was away has no claim to what he did not use.
        least = min((before[tenant] for tenant in tenants if tenant in before), default=0.0)
        turns = [(before.get(tenant, least), tenant) for tenant in sorted(tenants)]
        heapq.heapify(turns)
        given = dict.fromkeys(tenants, 0)
        for _ in range(free if turns else 0):
            had, tenant = turns[0]
            given[tenant] += 1
            heapq.heapreplace(turns, (had + 1.0 / weights.get(tenant, 1.0), tenant))
        self._had[queue] = {tenant: had for had, tenant in turns}
        return {tenant: count for tenant, count in given.items() if count}

    def keep(self, queues: Collection[str]) -> None:
        """Forgets all other queues: nobody waits there."""
        self._had = {queue: had for queue, had in self._had.items() if queue in queues}


def interleaved(items: Iterable[tuple[str, Item]], weights: Mapping[str, float]) -> list[Item]:
    """(tenant, item) in each tenant's order -> the order in which they go into a queue: by turns, by weight.

    The n-th item of a tenant comes at the virtual time n / weight (weighted fair queueing, Demers et al. 1989).
    """
    turns: dict[str, int] = {}
    timed: list[tuple[float, int, Item]] = []
    for place, (tenant, item) in enumerate(items):
        turns[tenant] = turns.get(tenant, 0) + 1
        timed.append((turns[tenant] / weights.get(tenant, 1.0), place, item))
    ordered: Sequence[tuple[float, int, Item]] = sorted(timed, key=lambda entry: entry[:2])
    return [item for _, _, item in ordered]
