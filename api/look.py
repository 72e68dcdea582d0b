"""The leader's look: from what waits, runs and lives to the loads that routing goes by, and to who helps where."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from api.cards import Cards
from api.census import Census, Kind, Running, Waiting
from fleet.catalogue import Catalogue
from fleet.contracts import Lane, Pool
from fleet.cost import CostModel, prior_s, usual_s
from fleet.errors import NotFound
from fleet.queues import QueueName
from fleet.routing import Fleet, Help, Load, Member, expected_wait_s, helpers
from fleet.service_times import ServiceTimes
from fleet.traffic import QueueTraffic, Traffic

#: A job that has run longer than expected is taken to need this part of that time still.
_OVERDUE = 0.1


class Look:
    """Used by one thread. Asks the record; writes nothing."""

    def __init__(self, *, catalogue: Catalogue, cards: Cards, census: Census, service_times: ServiceTimes) -> None:
        self._catalogue = catalogue
        self._cards = cards
        self._census = census
        self._service_times = service_times

    def now(self, before: Mapping[str, Help], window: Callable[[str], int]) -> tuple[Fleet, Traffic]:
        """`before`: who helped until now; `window`: that of a queue. Raises DependencyError."""
        members = self._members()
        waiting = self._census.waiting()
        kinds = self._census.kinds(waiting)
        aged = self._census.aged() if waiting else {}
        loads = {name: self._load(name, queue, kinds[name], members) for name, queue in waiting.items()}
        fleet = Fleet(tuple(members), loads)
        help_now = helpers(fleet, before, time.time())
        queues = {
            name: _traffic(name, waiting.get(name, Waiting()), fleet, help_now.get(name), window(name), aged)
            # Those too in which something aged has arrived since a deep backlog was counted.
            for name in sorted({*waiting, *help_now, *aged})
        }
        counted_at = self._census.counted_at
        return fleet, Traffic(at=datetime.now(UTC), counted_at=counted_at, queues=queues, tenants=_tenants(waiting))

    def _members(self) -> list[Member]:
        workers = self._catalogue.workers()
        members = {worker.word.name: worker.member() for worker in workers if not worker.word.draining}
        if not any(member.running for member in members.values()):
            return list(members.values())
        busy_s: dict[str, float] = defaultdict(float)
        costs = self._service_times.model()
        counts: dict[str, int] = defaultdict(int)
        for job in self._census.running():
            member = members.get(job.worker)
            if member is not None:
                busy_s[job.worker] += self._left_s(costs, job, member)
                counts[job.worker] += 1
        return [
            replace(member, busy_s=busy_s[name], running=max(member.running, counts[name]))
            for name, member in members.items()
        ]

    def _left_s(self, costs: CostModel, job: Running, member: Member) -> float:
        takes_s = self._takes_s(costs, job.model, job.version, job.bucket, job.lane, member.pool, [member.kind])
        return max(takes_s - job.running_s, _OVERDUE * takes_s)

    def _load(self, name: str, waiting: Waiting, kinds: Sequence[Kind], members: Iterable[Member]) -> Load:
        lane, costs = QueueName.parse(name).lane, self._service_times.model()
        jobs = sum(kind.jobs for kind in kinds) or 1
        mean_s = {}
        for pool in Pool:
            devices = {member.kind for member in members if member.pool is pool and lane in member.lanes}
            spent = (
                kind.jobs * self._takes_s(costs, kind.model, kind.version, kind.bucket, lane, pool, devices)
                for kind in kinds
            )
            mean_s[pool] = sum(spent) / jobs if kinds else usual_s(lane, pool)
        models = frozenset(f"{kind.model}/{kind.version}" for kind in kinds)
        return Load(waiting.published + waiting.held, mean_s[Pool.GPU], mean_s[Pool.CPU], waiting.oldest_s, models)

    def _takes_s(  # noqa: PLR0917 (what decides how long a job takes)
        self, costs: CostModel, model: str, version: int, bucket: int, lane: Lane, pool: Pool, devices: Iterable[str]
    ) -> float:
        try:
            card = self._cards.get(model, version).card
            priors = {each: prior_s(card, each) for each in Pool}
        except NotFound:
            priors = {each: usual_s(lane, each) for each in Pool}
        prior = priors.pop(pool)
        (other,) = priors.values()
        return costs.of(model, version, bucket, pool, devices, prior_s=prior, other_prior_s=other).mean_s


def _traffic(  # noqa: PLR0917 (what is known of a queue)
    name: str, waiting: Waiting, fleet: Fleet, help_now: Help | None, window: int, aged: Mapping[str, int]
) -> QueueTraffic:
    load = fleet.loads.get(name)
    wait_s = _wait_s(name, fleet, help_now)
    return QueueTraffic(
        published=waiting.published,
        held=waiting.held,
        oldest_s=waiting.oldest_s,
        gpu_s=load.gpu_s if load else 0.0,
        cpu_s=load.cpu_s if load else 0.0,
        window=window,
        aged=aged.get(name, 0),
        wait_s=None if math.isinf(wait_s) else wait_s,
        helpers=list(help_now.workers) if help_now else [],
        help_why=help_now.why if help_now else "",
        help_changed_at=help_now.changed_at if help_now else 0.0,
    )


def _wait_s(name: str, fleet: Fleet, help_now: Help | None) -> float:
    """Until a job that comes now starts. With help, what is ahead is shared with the helpers, as fast as each is."""
    queue, load = QueueName.parse(name), fleet.loads.get(name)
    pool = queue.kind.pool
    alone_s = expected_wait_s(fleet, pool, queue.lane, queue.priority)
    if help_now is None or load is None or not load.jobs:
        return 0.0 if help_now is not None else alone_s
    helping = sum(member.slots for member in fleet.members if member.name in help_now.workers)
    if math.isinf(alone_s):
        return load.jobs * load.cpu_s / max(1, helping)
    slots = sum(member.slots for member in fleet.serving(pool, queue.lane))
    return alone_s * slots / (slots + helping * load.gpu_s / max(load.cpu_s, 1e-6))


def _tenants(waiting: Mapping[str, Waiting]) -> dict[Lane, dict[str, int]]:
    tenants: dict[Lane, dict[str, int]] = {}
    for name, queue in waiting.items():
        of_lane = tenants.setdefault(QueueName.parse(name).lane, {})
        for tenant, jobs in queue.tenants.items():
            of_lane[tenant] = of_lane.get(tenant, 0) + jobs
    return tenants
