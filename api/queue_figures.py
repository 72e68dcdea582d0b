"""Depth and age of the queues and the number of workers, taken from the record and the broker at scrape time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.traffic import TrafficReader
from fleet.broker import Broker
from fleet.catalogue import Catalogue
from fleet.contracts import Pool
from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.metrics import (
    QUEUE_AGED,
    QUEUE_HELD,
    QUEUE_HELPERS,
    QUEUE_JOBS,
    QUEUE_MESSAGES,
    QUEUE_OLDEST_SECONDS,
    QUEUE_WAIT_SECONDS,
    QUEUE_WINDOW,
    WORKERS_ALIVE,
)
from fleet.outbox import COUNTED_AT_MOST, Outbox, Waiting
from fleet.queues import ALL_QUEUES
from fleet.traffic import Traffic

Found = TypeVar("Found")
log = get_logger(__name__)


class QueueFigures(Collector):
    """A server that does not answer costs its own figures, never the whole page."""

    def __init__(self, outbox: Outbox, broker: Broker, catalogue: Catalogue, traffic: TrafficReader) -> None:
        self._traffic = traffic
        self._outbox = outbox
        self._broker = broker
        self._catalogue = catalogue

    def describe(self) -> list[Metric]:
        """Nothing: registering must not ask the servers."""
        return []

    def collect(self) -> Iterator[Metric]:
        names = list(ALL_QUEUES)
        depths = _unless_down(lambda: self._broker.depths(names))
        waiting = _unless_down(lambda: self._outbox.waiting(names))
        seen = self._traffic.now()
        workers = _unless_down(self._catalogue.workers)
        if waiting is not None:
            yield from _waiting(names, waiting, seen)
        if seen is not None:
            yield from _traffic(names, seen)
        if depths is not None:
            yield _family(QUEUE_MESSAGES, "queue", depths)
        if workers is not None:
            pools = [worker.word.pool for worker in workers if not worker.word.draining]
            yield _family(WORKERS_ALIVE, "pool", {pool.value: pools.count(pool) for pool in Pool})


def _waiting(names: Sequence[str], waiting: Sequence[Waiting], seen: Traffic | None) -> Iterator[Metric]:
    """A queue too deep to be counted here was counted by the leader."""
    jobs, oldest = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    for queue in waiting:
        looked = seen.queues.get(queue.queue) if seen is not None and queue.count >= COUNTED_AT_MOST else None
        jobs[queue.queue] = max(queue.count, looked.jobs if looked is not None else 0)
        oldest[queue.queue] = queue.oldest_s
    yield _family(QUEUE_JOBS, "queue", jobs)
    yield _family(QUEUE_OLDEST_SECONDS, "queue", oldest)


def _traffic(names: Sequence[str], seen: Traffic) -> Iterator[Metric]:
    """As the leader saw it last; of all queues, since one that vanishes from a page would stay on a graph."""
    queues = {name: seen.queues.get(name) for name in names}
    yield _family(QUEUE_HELD, "queue", {name: queue.held if queue else 0 for name, queue in queues.items()})
    yield _family(QUEUE_AGED, "queue", {name: queue.aged if queue else 0 for name, queue in queues.items()})
    yield _family(QUEUE_HELPERS, "queue", {name: len(queue.helpers) if queue else 0 for name, queue in queues.items()})
    known = {name: queue for name, queue in seen.queues.items() if name in queues}
    yield _family(QUEUE_WINDOW, "queue", {name: queue.window for name, queue in known.items()})
    waits = {name: queue.wait_s for name, queue in known.items()}
    # A queue that nobody serves has no wait that could be told.
    yield _family(QUEUE_WAIT_SECONDS, "queue", {name: wait_s for name, wait_s in waits.items() if wait_s is not None})


def _family(name_and_help: tuple[str, str], label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(*name_and_help, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _unless_down(ask: Callable[[], Found]) -> Found | None:
    try:
        return ask()
    except DependencyError as error:
        log.warning("figures are missing", error=error.code)
        return None
