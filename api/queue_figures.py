"""Depth and age of the queues and the number of workers, taken from the record and the broker at scrape time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet.broker import Broker, queues
from fleet.catalogue import Catalogue
from fleet.contracts import Lane, Pool
from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.metrics import QUEUE_JOBS, QUEUE_MESSAGES, QUEUE_OLDEST_SECONDS, WORKERS_ALIVE
from fleet.outbox import COUNTED_AT_MOST, Outbox, Waiting

Found = TypeVar("Found")
log = get_logger(__name__)


class QueueFigures(Collector):
    """A server that does not answer costs its own figures, never the whole page."""

    def __init__(self, outbox: Outbox, broker: Broker, catalogue: Catalogue) -> None:
        self._outbox = outbox
        self._broker = broker
        self._catalogue = catalogue

    def describe(self) -> list[Metric]:
        """Nothing: registering must not ask the servers."""
        return []

    def collect(self) -> Iterator[Metric]:
        names = queues(Pool, Lane)
        depths = _unless_down(lambda: self._broker.depths(names))
        waiting = _unless_down(lambda: self._outbox.waiting(names))
        workers = _unless_down(self._catalogue.workers)
        if waiting is not None:
            yield from _waiting(names, waiting, depths or {})
        if depths is not None:
            yield _family(QUEUE_MESSAGES, "queue", depths)
        if workers is not None:
            pools = [worker.word.pool for worker in workers if not worker.word.draining]
            yield _family(WORKERS_ALIVE, "pool", {pool.value: pools.count(pool) for pool in Pool})


def _waiting(names: Sequence[str], waiting: Sequence[Waiting], depths: Mapping[str, int]) -> Iterator[Metric]:
    """Of a queue too deep to count, the length is that of the broker's list: nearly every job has one message there."""
    jobs, oldest = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    for queue in waiting:
        counted = queue.count < COUNTED_AT_MOST
        jobs[queue.queue] = queue.count if counted else max(queue.count, depths.get(queue.queue, 0))
        oldest[queue.queue] = queue.oldest_s
    yield _family(QUEUE_JOBS, "queue", jobs)
    yield _family(QUEUE_OLDEST_SECONDS, "queue", oldest)


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
