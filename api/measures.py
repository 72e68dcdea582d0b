"""What the front door counts about itself, in a registry of its own. Names and help texts: `fleet/metrics.py`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from fleet.metrics import (
    EVENT_STREAMS,
    HTTP_JOINED,
    HTTP_JOINED_BUCKETS,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    HTTP_SECONDS_BUCKETS,
    JOBS_REFUSED,
    JOBS_SUBMITTED,
    PUBLICATIONS_FAILED,
    RECONCILER_ACTIONS,
    RECONCILER_FAULTS,
    RECONCILER_LEADER,
    SWEEP_LAG_SECONDS,
    WEBHOOK_TRIES,
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measures:
    """Counters of one api process. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(*HTTP_REQUESTS, ["route", "method", "status"], registry=self.registry)
        self._seconds = Histogram(
            *HTTP_SECONDS, ["route", "method"], buckets=HTTP_SECONDS_BUCKETS, registry=self.registry
        )
        self._joined = Histogram(*HTTP_JOINED, ["kind"], buckets=HTTP_JOINED_BUCKETS, registry=self.registry)
        self._streams = Gauge(*EVENT_STREAMS, registry=self.registry)
        self._submitted = Counter(*JOBS_SUBMITTED, ["task", "model"], registry=self.registry)
        self._refused = Counter(*JOBS_REFUSED, ["code"], registry=self.registry)
        self._unpublished = Counter(*PUBLICATIONS_FAILED, registry=self.registry)
        self._leader = Gauge(*RECONCILER_LEADER, registry=self.registry)
        self._actions = Counter(*RECONCILER_ACTIONS, ["action"], registry=self.registry)
        self._webhooks = Counter(*WEBHOOK_TRIES, ["state"], registry=self.registry)
        self._faults = Counter(*RECONCILER_FAULTS, ["step"], registry=self.registry)
        self._sweep_lag = Gauge(*SWEEP_LAG_SECONDS, registry=self.registry)

    def also(self, collector: Collector) -> None:
        """Adds figures that are taken when they are asked for."""
        self.registry.register(collector)

    def request_answered(self, route: str, method: str, status: int, seconds: float) -> None:
        # A method is the caller's word, and labels must stay bounded.
        method = method if method in _METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    def requests_joined(self, kind: str, count: int) -> None:
        self._joined.labels(kind).observe(count)

    def event_streams(self, count: int) -> None:
        self._streams.set(count)

    def job_submitted(self, task: str, model: str) -> None:
        self._submitted.labels(task, model).inc()

    def job_refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def publication_failed(self) -> None:
        self._unpublished.inc()

    def webhook_tried(self, state: str) -> None:
        self._webhooks.labels(state).inc()

    def leading(self, leader: bool) -> None:
        self._leader.set(int(leader))

    def reconciled(self, action: str, count: int) -> None:
        self._actions.labels(action).inc(count)

    def reconciler_failed(self, step: str) -> None:
        self._faults.labels(step).inc()

    def sweep_lag(self, seconds: float) -> None:
        self._sweep_lag.set(seconds)
