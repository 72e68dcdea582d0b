"""How much may wait: a submit beyond it is refused, with the moment from which it is worth to try again.

What waits is known from the leader's last look and from what this process admitted since. Only when that says "full",
the jobs are counted, and what was counted decides.
"""

import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from api.cards import Cards
from api.traffic import TrafficReader
from fleet.contracts import Lane, Pool
from fleet.cost import usual_s
from fleet.database import Database
from fleet.errors import LaneFull, TooManyWaiting
from fleet.queues import ALL_QUEUES, QueueName
from fleet.routing import Fleet
from fleet.settings import Settings
from fleet.sql import statements
from fleet.traffic import Traffic

_SQL = statements("traffic")
#: Seconds for which a count is gone by; one that took long is gone by for so many times as long.
_KEEP_S, _KEEP_TIMES = 0.5, 20.0
#: The part of a limit that is to be free again before it is worth to come back, and when that is at soonest and latest.
_FREE, _SOONEST_S, _LATEST_S = 0.01, 1.0, 600.0


@dataclass
class _Place:
    """A lane, or a tenant's part of it."""

    lane: Lane
    tenant: str | None
    limit: int
    #: Jobs that were let in so far, and those of them that are being stored.
    admitted: int = 0
    storing: int = 0
    #: The leader's last count, and how many had been admitted when the count before that came.
    look: datetime | None = None
    before_look: int = 0
    at_look: int = 0
    #: Jobs that were counted, how many had surely been admitted until then, and how long to go by it.
    counted: int = 0
    before_count: int = 0
    count_until: float = float("-inf")

    def waiting(self, seen: Traffic | None) -> int | None:
        """At most so many wait; None when nobody knows."""
        if time.monotonic() < self.count_until:
            return self.counted + self.admitted - self.before_count
        if seen is None:
            return None
        counted_at = seen.counted_at or seen.at
        if counted_at != self.look:
            self.look, self.before_look, self.at_look = counted_at, self.at_look, self.admitted
        return seen.waiting(self.lane, self.tenant) + self.admitted - self.before_look


class Limits:
    """Thread-safe. Of several front doors each may exceed the limits by what it takes in a second or two."""

    def __init__(
        self,
        database: Database,
        *,
        traffic: TrafficReader,
        cards: Cards,
        weights: Mapping[str, float],
        at_most: int,
        at_most_of_a_tenant: int,
    ) -> None:
        self._database = database
        self._traffic = traffic
        self._cards = cards
        self._weights = weights
        self._at_most = at_most
        self._at_most_of_a_tenant = at_most_of_a_tenant
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        #: Of the tenants that this server knows: few.
        self._places: dict[tuple[Lane, str | None], _Place] = {}

    @contextmanager
    def admitted(self, lane: Lane, tenant: str) -> Iterator[None]:
        """Around the storing of a job. Raises LaneFull `lane-full`, TooManyWaiting `too-many-waiting`."""
        with self._lock:
            places = [self._place(lane, None, self._at_most), self._place(lane, tenant, self._at_most_of_a_tenant)]
        while (full := self._enter(places)) is not None:
            self._count(full)
        try:
            yield
        finally:
            with self._lock:
                for place in places:
                    place.storing -= 1

    def _place(self, lane: Lane, tenant: str | None, limit: int) -> _Place:
        return self._places.setdefault((lane, tenant), _Place(lane, tenant, limit))

    def _enter(self, places: list[_Place]) -> _Place | None:
        """Enters all, or gives the one that has to be counted first. Raises for one that was counted, and is full."""
        seen = self._traffic.now()
        with self._lock:
            waiting = {id(place): place.waiting(seen) for place in places}
            full = next((place for place in places if not _below(waiting[id(place)], place.limit)), None)
            if full is None:
                for place in places:
                    place.admitted += 1
                    place.storing += 1
                return None
            counted = time.monotonic() < full.count_until
        known = waiting[id(full)]
        if counted and known is not None:
            raise self._refusal(full, known, seen)
        return full

    def _count(self, place: _Place) -> None:
        with self._counting:
            began = time.monotonic()
            if began < place.count_until:
                return
            with self._lock:
                sure = place.admitted - place.storing
            row = self._database.one(
                _SQL["count_waiting"],
                {
                    "queues": [name for name in ALL_QUEUES if QueueName.parse(name).lane is place.lane],
                    "tenant": place.tenant,
                    "at_most": place.limit,
                },
            )
            took_s = time.monotonic() - began
            with self._lock:
                place.counted, place.before_count = (row["jobs"] if row else 0), sure
                place.count_until = time.monotonic() + max(_KEEP_S, _KEEP_TIMES * took_s)

    def _refusal(self, place: _Place, waiting: int, seen: Traffic | None) -> LaneFull:
        again_s = self._free_in_s(place, waiting, seen)
        facts = {"lane": place.lane.value, "waiting": waiting, "limit": place.limit}
        whose, name = ("", "") if place.tenant is None else (" of yours", "_PER_TENANT")
        message = (
            f"{waiting} jobs{whose} wait in the {place.lane.value} lane, and {place.limit} may "
            f"(MAX_WAITING_JOBS{name}): submit again in {math.ceil(again_s)} s"
        )
        return (LaneFull if place.tenant is None else TooManyWaiting)(message, retry_after_s=again_s, **facts)

    def _free_in_s(self, place: _Place, waiting: int, seen: Traffic | None) -> float:
        """Until the workers have taken the part of the limit that is to be free, by the learned service times."""
        jobs = max(1, math.ceil(_FREE * place.limit)) + max(0, waiting - place.limit)
        fleet = Fleet(self._cards.members(), seen.loads if seen is not None else {})
        rate = sum(
            sum(member.slots for member in fleet.serving(pool, place.lane)) / _mean_s(fleet, pool, place.lane)
            for pool in Pool
        )
        if place.tenant is not None and seen is not None:
            others = {*seen.tenants.get(place.lane, ()), place.tenant}
            rate *= self._weights.get(place.tenant, 1.0) / sum(self._weights.get(tenant, 1.0) for tenant in others)
        return min(max(jobs / rate if rate else _LATEST_S, _SOONEST_S), _LATEST_S)


def _below(waiting: int | None, limit: int) -> bool:
    return waiting is not None and waiting < limit


def _mean_s(fleet: Fleet, pool: Pool, lane: Lane) -> float:
    """Seconds of a job of those that wait in the lane."""
    loads = [load for name, load in fleet.loads.items() if QueueName.parse(name).lane is lane and load.seconds(pool)]
    jobs = sum(load.jobs for load in loads)
    return sum(load.jobs * load.seconds(pool) for load in loads) / jobs if jobs else usual_s(lane, pool)


def build_limits(settings: Settings, database: Database, traffic: TrafficReader, cards: Cards) -> Limits:
    return Limits(
        database,
        traffic=traffic,
        cards=cards,
        weights=settings.tenant_weights,
        at_most=settings.max_waiting_jobs,
        at_most_of_a_tenant=settings.max_waiting_jobs_per_tenant,
    )
