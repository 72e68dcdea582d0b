"""What was run of each model since ever, taken from the record at scrape time."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.metrics import MODEL_INFER_SECONDS, MODEL_ITEMS, MODEL_JOBS, MODEL_RUNS
from fleet.usage import Usage, UsageBoard

log = get_logger(__name__)
_OF = ("model", "version")


class ModelFigures(Collector):
    """A record that does not answer costs these figures, never the whole page."""

    def __init__(self, usage: UsageBoard) -> None:
        self._usage = usage

    def describe(self) -> list[Metric]:
        """Nothing: registering must not ask the record."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            used = self._usage.read()
        except DependencyError as error:
            log.warning("figures are missing", error=error.code)
            return
        jobs = CounterMetricFamily(*MODEL_JOBS, labels=[*_OF, "outcome"])
        items = CounterMetricFamily(*MODEL_ITEMS, labels=_OF)
        runs = CounterMetricFamily(*MODEL_RUNS, labels=_OF)
        seconds = CounterMetricFamily(*MODEL_INFER_SECONDS, labels=_OF)
        for each in used:
            jobs.add_metric([*_labels(each), "success"], each.success)
            jobs.add_metric([*_labels(each), "failure"], each.failure)
            items.add_metric(_labels(each), each.items)
            runs.add_metric(_labels(each), each.runs)
            seconds.add_metric(_labels(each), each.infer_ns / 1e9)
        yield from (jobs, items, runs, seconds)


def _labels(used: Usage) -> list[str]:
    return [used.name, str(used.version)]
