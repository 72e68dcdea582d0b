"""When a job will start and end, and how many go before it, from what the fleet is seen to do now.

`of` finds a job's place, lines up who goes first and who takes it (`scene.py`), and has it played through
(`foresight.py`). The same goes for what runs already, from its time and its progress.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from api.foresight import Range, Running, Stage, Takes, outlook, rest
from api.scene import Scene, Scenes
from fleet.contracts import Job, JobState, Pool
from fleet.cost import Basis, size_bucket
from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.places import COUNTED_AT_MOST, Place, Places
from fleet.queues import QueueName
from fleet.routing import Member

#: What we go by may be a second old, and a message takes its way.
_LOOK_S = 1.0
#: Of a queue too deep to count: how wrong a job's place may be, as the deviation of a logarithm.
_UNCOUNTED = 0.3
#: At submit: how much longer, or shorter, the wait may be than what the leader told.
_ROUGHLY = 2.0
log = get_logger(__name__)


@dataclass(frozen=True)
class Forecast:
    at: datetime
    #: In its queue, 1 is next; `at_least`: it was counted no further. None: it runs, or was only just submitted.
    position: int | None = None
    at_least: bool = False
    #: A running job has no start to come; while nobody can take the job there is neither, and `why` says so.
    start: Range | None = None
    end: Range | None = None
    basis: Basis | None = None
    why: str | None = None


@dataclass(frozen=True)
class _Ahead:
    """Jobs of its own queue that go before a job."""

    jobs: float
    position: int
    at_least: bool = False


class Forecasts:
    """Thread-safe. One costs one bounded statement, or two; the rest is read once a second for all."""

    def __init__(self, scenes: Scenes, places: Places, weights: Mapping[str, float]) -> None:
        self._scenes = scenes
        self._places = places
        self._weights = weights

    def of(self, job: Job) -> Forecast | None:
        """None when the job has ended or is being cancelled, or while the record does not answer."""
        try:
            if job.state is JobState.RUNNING and not job.cancel_requested:
                return self._under_way(job, self._scenes.now())
            place = self._places.of(job) if job.state is JobState.QUEUED else None
            return self._waiting(job, self._scenes.now(), place) if place is not None else None
        except DependencyError as error:
            log.warning("no forecast", job_id=str(job.id), error=error.code)
            return None

    def at_submit(self, job: Job) -> Forecast | None:
        """The same by the leader's figures alone: without a statement, and so without the position."""
        try:
            scene = self._scenes.glance()
            kind = self._scenes.kind(job.model, job.version, job.input_bytes, job.lane)
        except DependencyError as error:
            log.warning("no forecast", job_id=str(job.id), error=error.code)
            return None
        if job.state is not JobState.QUEUED or scene.traffic is None:
            return None
        now, queue = datetime.now(UTC), QueueName.parse(job.queue)
        serving, wait_s = scene.serving(queue), scene.wait_s(queue) or 0.0
        if fault := _nobody(job, queue, serving):
            return Forecast(now, why=fault)
        pool = queue.kind.pool if any(one.pool is queue.kind.pool for one in serving) else serving[0].pool
        takes = scene.estimate(kind, pool, serving)
        start = Range(wait_s / _ROUGHLY, wait_s, wait_s * _ROUGHLY)
        end = Range(start.earliest_s + takes.low_s, wait_s + takes.mean_s, start.latest_s + takes.high_s)
        return Forecast(now, start=_later(start), end=_later(end), basis=takes.basis)

    def _waiting(self, job: Job, scene: Scene, place: Place) -> Forecast:
        now = datetime.now(UTC)
        ahead = self._ahead(job, scene, place)
        queue = QueueName.parse(job.queue)
        serving = scene.serving(queue)
        if fault := _nobody(job, queue, serving):
            return Forecast(now, ahead.position, ahead.at_least, why=fault)
        kind = self._scenes.kind(job.model, job.version, job.input_bytes, job.lane)
        pools = sorted({member.pool for member in serving}, key=lambda pool: pool is not queue.kind.pool)
        estimates = {pool: scene.estimate(kind, pool, serving) for pool in pools}
        own = {pool: Takes.of(estimate) for pool, estimate in estimates.items()}
        slots = scene.slots(queue.lane)
        takers = [slot for member in serving for slot in slots[member.name]]
        last = Stage(ahead.jobs, self._mix(job, scene, place, serving), takers)
        seen = outlook([*scene.before(queue, slots), _unsure(last) if ahead.at_least else last], own, job.id.int)
        start = _not_before(seen.start, place.due_in_s)
        end = _after(seen.end, start.expected_s - seen.start.expected_s)
        basis = estimates[pools[0]].basis
        return Forecast(now, ahead.position, ahead.at_least, _later(start), _later(end), basis)

    def _under_way(self, job: Job, scene: Scene) -> Forecast:
        now = datetime.now(UTC)
        seen = [
            one for jobs in scene.running.values() for one, _ in jobs if (one.id, one.attempt) == (job.id, job.attempt)
        ]
        members = [member for member in scene.members if seen and member.name == seen[0].worker]
        # Not seen yet, or no more: it began when it was first taken, or when the attempt before had ended.
        moments = [job.started_at or now, *(note.at for note in job.history)]
        since_s = seen[0].seconds if seen else (now - max(moments)).total_seconds()
        pool = members[0].pool if members else QueueName.parse(job.queue).kind.pool
        kind = self._scenes.kind(job.model, job.version, job.input_bytes, job.lane)
        estimate = scene.estimate(kind, pool, members)
        running = Running(Takes.of(estimate), max(0.0, since_s), job.progress)
        return Forecast(now, end=rest(running, job.id.int), basis=estimate.basis)

    def _ahead(self, job: Job, scene: Scene, place: Place) -> _Ahead:
        if not place.counted:
            queue = scene.queue(job.queue)
            whole = queue.published + place.along * queue.held if place.held else place.along * queue.published
            return _Ahead(max(float(place.least), whole), place.least + 1, at_least=True)
        if not place.held:
            return _Ahead(place.published, place.published + 1)
        # The rule of `shares.interleaved`: so many turns come before its own, and every tenant has them by its weight.
        turns = (place.own_held + 1) / self._weights.get(job.tenant, 1.0)
        most = math.ceil(turns * max([1.0, *self._weights.values()]))
        others = self._places.held_by_others(job, min(most, COUNTED_AT_MOST))
        passed = sum(min(jobs, round(turns * self._weights.get(tenant, 1.0))) for tenant, jobs in others.items())
        jobs = place.least + passed
        return _Ahead(jobs, min(jobs, COUNTED_AT_MOST) + 1, at_least=jobs >= COUNTED_AT_MOST)

    def _mix(self, job: Job, scene: Scene, place: Place, serving: Sequence[Member]) -> dict[Pool, list[Takes]]:
        """What some of the jobs before it take."""
        pools = {member.pool for member in serving}
        if not place.ahead:
            return {pool: [scene.about(job.queue, pool)] for pool in pools}
        mix: dict[Pool, list[Takes]] = {pool: [] for pool in pools}
        found: dict[tuple[str, int, int], dict[Pool, Takes]] = {}
        for model, version, size in place.ahead:
            key = model, version, size_bucket(size)
            if key not in found:
                kind = self._scenes.kind(model, version, size, job.lane)
                found[key] = {pool: Takes.of(scene.estimate(kind, pool, serving)) for pool in pools}
            for pool, takes in found[key].items():
                mix[pool].append(takes)
        return mix


def _nobody(job: Job, queue: QueueName, serving: Sequence[Member]) -> str | None:
    """Why nobody can take the job now, or None."""
    if not serving:
        return f"no {queue.kind.pool.name} worker of the {queue.lane.value} lane is alive"
    model = f"{job.model}/{job.version}"
    if not any(model in member.models for member in serving):
        return f"no worker that is alive and serves {job.queue} has the model {model}"
    return None


def _unsure(stage: Stage) -> Stage:
    takes = {
        pool: [replace(kind, shared=math.hypot(kind.shared, _UNCOUNTED)) for kind in mix]
        for pool, mix in stage.takes.items()
    }
    return replace(stage, takes=takes)


def _not_before(seen: Range, seconds: float) -> Range:
    return Range(max(seen.earliest_s, seconds), max(seen.expected_s, seconds), max(seen.latest_s, seconds))


def _after(seen: Range, seconds: float) -> Range:
    return Range(seen.earliest_s + seconds, seen.expected_s + seconds, seen.latest_s + seconds)


def _later(seen: Range) -> Range:
    return replace(seen, latest_s=seen.latest_s + _LOOK_S)
