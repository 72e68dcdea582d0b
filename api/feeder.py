"""Publishes what waits in the record: per queue and tenant no more than keeps workers busy, so that shares are fair.

Called by the dispatcher several times a second, and by the reconciler after a repair. What it does is safe to do twice:
jobs are marked as published first, by whoever takes them.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from fleet import shares
from fleet.broker import Broker, message, shadow_name
from fleet.errors import DependencyError
from fleet.outbox import COUNTED_PUBLISHED, Outbox, Pair, Publication, Published

#: Seconds between two rounds, and those after a round that found a queue empty for which jobs were held.
TICK_S, SOON_S = 0.25, 0.05
_BATCH = 1_000
_AT_MOST_A_ROUND = 5_000


class Feeder:
    """Thread-safe: one round at a time."""

    def __init__(
        self, outbox: Outbox, broker: Broker, *, weights: Mapping[str, float], did: Callable[[str, int], None]
    ) -> None:
        """`did` is told what was done, and to how many jobs."""
        self._outbox = outbox
        self._broker = broker
        self._weights = weights
        self._did = did
        self._turn = threading.Lock()
        self._turns = shares.Turns()
        self.windows = shares.Windows()
        #: Of a broker that lost everything: what was published before that moment has no message any more.
        self.lost_before: datetime | None = None
        #: queue -> messages that it had after the last round, and when the newest of them was published.
        self._left: dict[str, tuple[int, datetime]] = {}
        self._fed_at = 0.0

    def round(self) -> float:
        """Publishes all that there is room for; how many seconds the next round may wait. Raises DependencyError."""
        with self._turn:
            due = self._outbox.due()
            if due:
                # Asked before anything is marked as published.
                self._broker.check()
            at_once = [pair for pair, first in due.items() if first]
            while at_once:
                taken = self._outbox.take(dict.fromkeys(at_once, _BATCH), at_once=True)
                self._publish(taken)
                at_once = at_once if len(taken) >= _BATCH else []
            return self._feed(due)

    def _feed(self, due: Iterable[Pair]) -> float:
        held: dict[str, list[str]] = defaultdict(list)
        for queue, tenant in due:
            held[queue].append(tenant)
        since = {queue: self._left[queue][1] if queue in self._left else None for queue in held}
        published: dict[str, dict[str, Published]] = {queue: {} for queue in held}
        if held:
            for (queue, tenant), found in self._outbox.published(since, self.lost_before).items():
                published[queue][tenant] = found
        emptied = self._adapt(held, published)
        # Remembered before anything is added to it.
        totals = {queue: sum(found.jobs for found in tenants.values()) for queue, tenants in published.items()}
        newest = {queue: [found.newest for found in tenants.values()] for queue, tenants in published.items()}
        self._turns.keep(held)
        for queue, tenants in held.items():
            for job in self._fill(queue, tenants, published[queue]):
                totals[queue] += 1
                newest[queue].append(job.published_at)
        self._left = {queue: (totals[queue], max(newest[queue])) for queue in held if newest[queue]}
        return SOON_S if emptied else TICK_S

    def _adapt(self, held: Mapping[str, Sequence[str]], published: Mapping[str, Mapping[str, Published]]) -> bool:
        """Fits the windows to what was taken since the last round; whether workers found one of the queues empty."""
        now = time.monotonic()
        ticks = max(now - self._fed_at, SOON_S) / TICK_S
        self._fed_at = now
        emptied = False
        for queue in self.windows.grown.keys() - held.keys():
            # Nobody waits for his turn there any more, so nobody knows what was taken.
            self.windows.drained(queue, 0, emptied=False)
        for queue in held:
            count, _ = self._left.get(queue, (0, None))
            there = published.get(queue, {})
            taken = max(0, count - sum(found.older for found in there.values()))
            empty = bool(taken) and not there
            emptied = emptied or empty
            # All who take part share what is needed.
            parts = sum(self._weights.get(tenant, 1.0) for tenant in {*held[queue], *there})
            self.windows.drained(queue, taken / ticks / (parts or 1.0), emptied=empty)
        return emptied

    def _fill(self, queue: str, tenants: Sequence[str], published: Mapping[str, Published]) -> list[Publication]:
        """Up to the windows of those who wait, by turns, in batches that the record and the broker bear well.

        What they have there counts for all of them together: whoever had the queue to himself goes on having his turns.
        """
        done: list[Publication] = []
        if sum(found.jobs for found in published.values()) >= COUNTED_PUBLISHED:
            return done
        windows = (shares.window_of(self.windows.of(queue), self._weights.get(tenant, 1.0)) for tenant in tenants)
        free = sum(windows) - sum(published[tenant].jobs for tenant in tenants if tenant in published)
        waiting = list(tenants)
        while waiting and len(done) < min(free, _AT_MOST_A_ROUND):
            turns = self._turns.give(queue, waiting, min(free - len(done), _BATCH), self._weights)
            taken = self._outbox.take({(queue, tenant): count for tenant, count in turns.items()})
            self._publish(taken)
            done += taken
            got = Counter(job.tenant for job in taken)
            # Who got less than he might has no more.
            waiting = [tenant for tenant in waiting if got[tenant] == turns.get(tenant, 0)]
            if len(taken) == sum(turns.values()) and len(taken) < _BATCH:
                break
        return done

    def _publish(self, due: Sequence[Publication]) -> None:
        if not due:
            return
        turns: dict[str, list[tuple[str, Publication]]] = defaultdict(list)
        for job in due:
            turns[job.queue].append((job.tenant, job))
        ordered = [job for queue in turns.values() for job in shares.interleaved(queue, self._weights)]
        # What goes before all others goes in reverse, so that the oldest is in front in the end.
        first = [_message(job) for job in reversed(ordered) if job.first]
        try:
            self._broker.publish_all([_message(job) for job in ordered if not job.first], first=first)
        except DependencyError:
            self._outbox.unpublish(due)
            raise
        self._did("published", len(due))


def _message(job: Publication) -> tuple[str, str]:
    return job.queue, message(job.job_id, job.seq, job.queue, shadow_name(job.task, job.model))
