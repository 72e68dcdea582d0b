"""The fleet as a whole, for `/api/v1/monitoring`: who is there, what runs, what waits.

A server that does not answer costs its own figures, never the whole page.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from api.fleet_views import (
    FleetView,
    HelpingView,
    LaneView,
    PoolView,
    QueuesView,
    QueueView,
    RunningView,
    WorkerView,
)
from api.scene import Scene, Scenes
from api.traffic import STALE_S
from fleet.broker import Broker
from fleet.catalogue import Catalogue, LiveWorker
from fleet.contracts import Lane, Pool, PriorityName
from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.places import Places, RunningJob
from fleet.queues import ALL_QUEUES, QueueName
from fleet.traffic import QueueTraffic, Traffic, TrafficBoard

#: Running jobs that are listed.
_LISTED = 500
_RECORD, _BROKER = "postgresql", "redis"
Found = TypeVar("Found")
log = get_logger(__name__)


@dataclass
class _Asked:
    """Asks servers, and notes those that are away; one of them is not asked twice."""

    missing: list[str] = field(default_factory=list)

    def of(self, server: str, ask: Callable[[], Found]) -> Found | None:
        if server in self.missing:
            return None
        try:
            return ask()
        except DependencyError as error:
            log.warning("the overview is not complete", server=server, error=error.code)
            self.missing.append(server)
            return None


class Overview:
    def __init__(
        self,
        catalogue: Catalogue,
        places: Places,
        board: TrafficBoard,
        scenes: Scenes,
        broker: Broker,
        *,
        limit: int,
        tenant_limit: int,
    ) -> None:
        self._catalogue = catalogue
        self._places = places
        self._board = board
        self._scenes = scenes
        self._broker = broker
        self._limit = limit
        self._tenant_limit = tenant_limit

    def fleet(self, tenant: str) -> FleetView:
        asked = _Asked()
        workers = asked.of(_RECORD, self._catalogue.workers)
        running = asked.of(_RECORD, self._places.running)
        seen = asked.of(_RECORD, self._board.read)
        traffic = _fresh(seen)
        return FleetView(
            at=datetime.now(UTC),
            workers=None if workers is None else [_worker(worker, traffic) for worker in workers],
            running=None if running is None else [_running(job, tenant) for job in running[:_LISTED]],
            running_left_out=max(0, len(running or ()) - _LISTED),
            pools=None if workers is None else [_pool(pool, workers) for pool in Pool],
            traffic_age_s=seen[1] if seen else None,
            unavailable=asked.missing,
        )

    def queues(self, tenant: str, *, empty_too: bool) -> QueuesView:
        asked = _Asked()
        depths = asked.of(_BROKER, lambda: self._broker.depths(ALL_QUEUES))
        seen = asked.of(_RECORD, self._board.read)
        workers = asked.of(_RECORD, self._catalogue.workers)
        scene = asked.of(_RECORD, self._scenes.now)
        traffic = _fresh(seen)
        shown = [_queue(name, depths, traffic, scene, workers) for name in ALL_QUEUES]
        return QueuesView(
            at=datetime.now(UTC),
            queues=[queue for queue in shown if empty_too or queue.messages or queue.published or queue.held],
            lanes=[self._lane(lane, traffic, tenant) for lane in Lane],
            traffic_age_s=seen[1] if seen else None,
            unavailable=asked.missing,
        )

    def _lane(self, lane: Lane, traffic: Traffic | None, tenant: str) -> LaneView:
        return LaneView(
            lane=lane,
            waiting=traffic.waiting(lane) if traffic else None,
            limit=self._limit,
            yours=traffic.waiting(lane, tenant) if traffic else None,
            your_limit=self._tenant_limit,
        )


def _fresh(seen: tuple[Traffic, float] | None) -> Traffic | None:
    return seen[0] if seen is not None and seen[1] <= STALE_S else None


def _worker(worker: LiveWorker, traffic: Traffic | None) -> WorkerView:
    word = worker.word
    asked = [(name, queue) for name, queue in traffic.queues.items() if word.name in queue.helpers] if traffic else []
    return WorkerView(
        name=word.name,
        host=word.host,
        pid=word.pid,
        pool=word.pool,
        lanes=list(word.lanes),
        device=word.device,
        kind=word.kind,
        provider=word.provider,
        simulated=word.simulated,
        slots=word.concurrency,
        running=word.running,
        models=len(word.models),
        loaded=sorted(word.loaded),
        rss_bytes=word.rss_bytes,
        memory_usable_bytes=word.memory_usable_bytes,
        memory_granted_bytes=word.memory_granted_bytes,
        device_memory_bytes=word.device_memory_bytes,
        device_used_bytes=word.device_used_bytes,
        draining=word.draining,
        helps=word.helps,
        queues=list(word.queues),
        helping=[HelpingView(queue=name, why=queue.help_why, joined=name in word.queues) for name, queue in asked],
        started_at=worker.started_at,
        seen_at=worker.seen_at,
    )


def _running(job: RunningJob, tenant: str) -> RunningView:
    return RunningView(
        id=job.id if job.tenant == tenant else None,
        model=job.model,
        version=job.version,
        stage=job.stage,
        progress=job.progress,
        priority=PriorityName[job.priority.name],
        lane=job.lane,
        queue=job.queue,
        worker=job.worker,
        seconds=max(0.0, job.seconds),
    )


def _pool(pool: Pool, workers: Sequence[LiveWorker]) -> PoolView:
    words = [worker.word for worker in workers if worker.word.pool is pool]
    return PoolView(
        pool=pool,
        workers=len(words),
        draining=sum(word.draining for word in words),
        simulated=sum(word.simulated for word in words),
        slots=sum(word.concurrency for word in words if not word.draining),
        running=sum(word.running for word in words),
    )


def _queue(
    name: str,
    depths: Mapping[str, int] | None,
    traffic: Traffic | None,
    scene: Scene | None,
    workers: Sequence[LiveWorker] | None,
) -> QueueView:
    parsed = QueueName.parse(name)
    told = traffic.queues.get(name, QueueTraffic()) if traffic else None
    waits = told is not None and told.jobs > 0
    return QueueView(
        name=name,
        kind=parsed.kind,
        lane=parsed.lane,
        priority=PriorityName[parsed.priority.name],
        messages=depths[name] if depths is not None else None,
        published=told.published if told else None,
        held=told.held if told else None,
        aged=told.aged if told else None,
        oldest_s=told.oldest_s if told else None,
        gpu_s=told.gpu_s if told and waits else None,
        cpu_s=told.cpu_s if told and waits else None,
        wait_s=scene.wait_s(parsed) if scene and traffic else None,
        workers=None if workers is None else sum(name in worker.word.queues for worker in workers),
        helpers=told.helpers if told else None,
        help_why=told.help_why or None if told else None,
    )
