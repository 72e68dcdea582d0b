"""Depth and age of the queues and the number of workers, taken from the record and the broker at scrape time."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet.broker import Broker, queues
from fleet.catalogue import Catalogue
from fleet.contracts import Lane, Pool
from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.metrics import QUEUE_JOBS, QUEUE_MESSAGES, QUEUE_OLDEST_SECONDS, WORKERS_ALIVE
from fleet.outbox import Outbox

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
        for figures in (self._waiting, self._messages, self._workers):
            try:
                yield from figures()
            except DependencyError as error:
                log.warning("figures are missing", error=error.code)

    def _waiting(self) -> list[Metric]:
        jobs = GaugeMetricFamily(*QUEUE_JOBS, labels=["queue"])
        oldest = GaugeMetricFamily(*QUEUE_OLDEST_SECONDS, labels=["queue"])
        found = {queue.queue: queue for queue in self._outbox.waiting()}
        for name in queues(Pool, Lane):
            jobs.add_metric([name], found[name].count if name in found else 0)
            oldest.add_metric([name], found[name].oldest_s if name in found else 0.0)
        return [jobs, oldest]

    def _messages(self) -> list[Metric]:
        messages = GaugeMetricFamily(*QUEUE_MESSAGES, labels=["queue"])
        for name, depth in self._broker.depths(queues(Pool, Lane)).items():
            messages.add_metric([name], depth)
        return [messages]

    def _workers(self) -> list[Metric]:
        alive = GaugeMetricFamily(*WORKERS_ALIVE, labels=["pool"])
        pools = [worker.word.pool for worker in self._catalogue.workers() if not worker.word.draining]
        for pool in Pool:
            alive.add_metric([pool.value], pools.count(pool))
        return [alive]
