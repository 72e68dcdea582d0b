"""The fleet at one moment, as forecasts need it: who lives, what runs there, what waits, and what all that takes."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from api.cards import Cards
from api.foresight import Running, Slot, Stage, Takes
from api.traffic import TrafficReader
from fleet.card import Card
from fleet.contracts import Lane, Pool, Priority
from fleet.cost import CostModel, Estimate, prior_s, size_bucket, usual_s
from fleet.errors import NotFound
from fleet.places import Places, RunningJob
from fleet.queues import QueueKind, QueueName
from fleet.routing import Fleet, Member, expected_wait_s
from fleet.service_times import ServiceTimes
from fleet.traffic import QueueTraffic, Traffic

_KEEP_RUNNING_S, _KEEP_CARDS_S = 1.0, 60.0


@dataclass(frozen=True)
class Kind:
    """What decides how long a job takes, besides the device."""

    model: str
    version: int
    bucket: int
    #: Of the card, if there is one; else what is usual in the lane.
    prior_s: Mapping[Pool, float]


@dataclass(frozen=True)
class Scene:
    members: tuple[Member, ...]
    #: None while nobody leads: then nothing is known of other queues.
    traffic: Traffic | None
    costs: CostModel
    #: By worker.
    running: Mapping[str, list[tuple[RunningJob, Kind]]]

    @property
    def fleet(self) -> Fleet:
        """As routing sees it, with what is left of the jobs that run."""
        members = tuple(replace(member, busy_s=self._busy_s(member)) for member in self.members)
        return Fleet(members, self.traffic.loads if self.traffic else {})

    def queue(self, name: str) -> QueueTraffic:
        return self.traffic.queues.get(name, QueueTraffic()) if self.traffic else QueueTraffic()

    def serving(self, queue: QueueName) -> list[Member]:
        """Those that take from the queue: its pool's own, and CPU workers that help."""
        helpers = self.queue(str(queue)).helpers
        return [
            member
            for member in self.members
            if queue.lane in member.lanes and (member.pool is queue.kind.pool or member.name in helpers)
        ]

    def estimate(self, kind: Kind, pool: Pool, members: Iterable[Member]) -> Estimate:
        """On the devices of these members that are of the pool."""
        devices = [member.kind for member in members if member.pool is pool]
        (other,) = (each for each in Pool if each is not pool)
        return self.costs.of(
            kind.model,
            kind.version,
            kind.bucket,
            pool,
            devices,
            prior_s=kind.prior_s[pool],
            other_prior_s=kind.prior_s[other],
        )

    def slots(self, lane: Lane) -> dict[str, list[Slot]]:
        """worker -> its slots, with what runs in them."""
        return {member.name: self._slots_of(member) for member in self.members if lane in member.lanes}

    def before(self, queue: QueueName, slots: Mapping[str, list[Slot]]) -> list[Stage]:
        """What the workers of that queue take first: in the order of `queues.in_order`."""
        helped = any(member.pool is not queue.kind.pool for member in self.serving(queue))
        kinds = {
            QueueKind.GPU_ONLY: [QueueKind.GPU_ONLY],
            QueueKind.GPU: [QueueKind.GPU_ONLY, *([QueueKind.CPU] if helped else []), QueueKind.GPU],
            QueueKind.CPU: [QueueKind.CPU],
        }[queue.kind]
        # A worker of the queue serves others that are more urgent, of whichever kind.
        names = [QueueName(kind, queue.lane, rank) for rank in Priority if rank < queue.priority for kind in QueueKind]
        names += [QueueName(kind, queue.lane, queue.priority) for kind in kinds if kind is not queue.kind]
        waiting = [name for name in names if self.queue(str(name)).jobs]
        return [
            Stage(
                self.queue(str(name)).jobs,
                {pool: [self.about(str(name), pool)] for pool in Pool},
                [slot for member in self.serving(name) for slot in slots[member.name]],
            )
            for name in waiting
        ]

    def about(self, name: str, pool: Pool) -> Takes:
        """What a job of that queue takes, as far as the leader told."""
        queue = self.queue(name)
        told_s = queue.gpu_s if pool is Pool.GPU else queue.cpu_s
        return Takes.about(told_s or usual_s(QueueName.parse(name).lane, pool))

    def wait_s(self, queue: QueueName) -> float | None:
        """Of a job that comes now: as the leader told, or for a queue that it left out as empty, by the same formula.

        None while nobody serves it.
        """
        if self.traffic is not None and str(queue) in self.traffic.queues:
            return self.queue(str(queue)).wait_s
        wait_s = expected_wait_s(self.fleet, queue.kind.pool, queue.lane, queue.priority)
        return None if math.isinf(wait_s) else wait_s

    def _busy_s(self, member: Member) -> float:
        runs = [
            (self.estimate(kind, member.pool, [member]).mean_s, job.seconds)
            for job, kind in self.running.get(member.name, ())
        ]
        return sum(max(takes_s - since_s, 0.1 * takes_s) for takes_s, since_s in runs)

    def _slots_of(self, member: Member) -> list[Slot]:
        busy = [
            Running(Takes.of(self.estimate(kind, member.pool, [member])), job.seconds, job.progress)
            for job, kind in self.running.get(member.name, ())
        ]
        free = [None] * max(0, member.slots - len(busy))
        return [Slot(member.name, member.pool, one) for one in (*busy[: member.slots], *free)]


class Scenes:
    """Reads them. What others asked for a moment ago is not read again. Thread-safe."""

    def __init__(self, cards: Cards, traffic: TrafficReader, service_times: ServiceTimes, places: Places) -> None:
        self._cards = cards
        self._traffic = traffic
        self._service_times = service_times
        self._places = places
        self._running: tuple[float, list[RunningJob]] = float("-inf"), []
        self._known: dict[tuple[str, int], tuple[float, Card | None]] = {}

    def glance(self) -> Scene:
        """Without what runs: from what every submit reads in any case. Raises DependencyError."""
        return Scene(self._cards.members(), self._traffic.now(), self._service_times.model(), {})

    def now(self) -> Scene:
        """Raises DependencyError."""
        read_at, jobs = self._running
        if time.monotonic() - read_at > _KEEP_RUNNING_S:
            read_at = time.monotonic()
            jobs = self._places.running()
            self._running = read_at, jobs
        age_s = time.monotonic() - read_at
        running: dict[str, list[tuple[RunningJob, Kind]]] = {}
        for job in jobs:
            kind = self.kind(job.model, job.version, job.input_bytes, job.lane)
            running.setdefault(job.worker, []).append((replace(job, seconds=job.seconds + age_s), kind))
        return replace(self.glance(), running=running)

    def kind(self, model: str, version: int, input_bytes: int, lane: Lane) -> Kind:
        card = self._card(model, version)
        prior = {pool: prior_s(card, pool) if card else usual_s(lane, pool) for pool in Pool}
        return Kind(model, version, size_bucket(input_bytes), prior)

    def _card(self, model: str, version: int) -> Card | None:
        found = self._known.get((model, version))
        if found is None or time.monotonic() - found[0] > _KEEP_CARDS_S:
            try:
                card = self._cards.get(model, version).card
            except NotFound:
                card = None
            found = self._known[model, version] = time.monotonic(), card
        return found[1]
