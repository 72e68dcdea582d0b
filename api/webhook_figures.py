"""How many webhooks wait, taken from the record at scrape time."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.metrics import WEBHOOK_OLDEST_SECONDS, WEBHOOKS_PENDING
from fleet.webhooks import WebhookStore

log = get_logger(__name__)


class WebhookFigures(Collector):
    def __init__(self, store: WebhookStore) -> None:
        self._store = store

    def describe(self) -> list[Metric]:
        """Nothing: registering must not ask the server."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            backlog = self._store.backlog()
        except DependencyError as error:
            log.warning("figures are missing", error=error.code)
            return
        yield GaugeMetricFamily(*WEBHOOKS_PENDING, value=backlog.pending)
        yield GaugeMetricFamily(*WEBHOOK_OLDEST_SECONDS, value=backlog.oldest_s)
