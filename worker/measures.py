"""What a worker counts about itself. Names and help texts are in `fleet/metrics.py`."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fleet.contracts import Job, JobState
from fleet.metrics import (
    MODEL_BATCH_ROWS,
    MODEL_BATCH_ROWS_BUCKETS,
    MODEL_BATCH_WAIT_SECONDS,
    MODEL_LOAD_SECONDS,
    MODEL_LOADS,
    MODEL_RUN_SECONDS,
    MODEL_SECONDS_BUCKETS,
    MODELS_BUDGET,
    MODELS_BYTES,
    MODELS_CLOSED,
    MODELS_LOADED,
    WORKER_CLAIMS_REFUSED,
    WORKER_IMPORTS,
    WORKER_MEMORY_GRANTED,
    WORKER_MEMORY_REFUSED,
    WORKER_MEMORY_USABLE,
    WORKER_MEMORY_WAITING,
    WORKER_MODEL_BYTES,
    WORKER_MODEL_CACHE,
    WORKER_RUNS,
    WORKER_STAGE_SECONDS,
    WORKER_STAGE_SECONDS_BUCKETS,
)
from worker.engine.registry import Registry
from worker.memory.budget import Budget


class Measures:
    """Counters of one process in a registry of its own; the exporter shows them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._refused = Counter(*WORKER_CLAIMS_REFUSED, registry=self.registry)
        self._runs = Counter(*WORKER_RUNS, ["task", "model", "outcome"], registry=self.registry)
        self._stages = Histogram(
            *WORKER_STAGE_SECONDS,
            ["task", "model", "stage"],
            buckets=WORKER_STAGE_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._memory_refused = Counter(*WORKER_MEMORY_REFUSED, registry=self.registry)
        self._batch_rows = Histogram(
            *MODEL_BATCH_ROWS, ["model"], registry=self.registry, buckets=MODEL_BATCH_ROWS_BUCKETS
        )
        self._run_seconds = Histogram(
            *MODEL_RUN_SECONDS, ["model"], registry=self.registry, buckets=MODEL_SECONDS_BUCKETS
        )
        self._batch_waits = Histogram(
            *MODEL_BATCH_WAIT_SECONDS, ["model"], registry=self.registry, buckets=MODEL_SECONDS_BUCKETS
        )

        self._imports = Counter(*WORKER_IMPORTS, ["outcome"], registry=self.registry)
        self._model_bytes = Counter(*WORKER_MODEL_BYTES, registry=self.registry)
        self._model_cache = Counter(*WORKER_MODEL_CACHE, ["found"], registry=self.registry)

        self._loads = Counter(*MODEL_LOADS, ["model", "outcome"], registry=self.registry)
        self._load_seconds = Histogram(
            *MODEL_LOAD_SECONDS, ["model"], registry=self.registry, buckets=WORKER_STAGE_SECONDS_BUCKETS
        )
        self._closed = Counter(*MODELS_CLOSED, ["model", "reason"], registry=self.registry)

    def model_loaded(self, model: str, seconds: float) -> None:
        self._loads.labels(model, "ok").inc()
        self._load_seconds.labels(model).observe(seconds)

    def model_not_loaded(self, model: str, code: str) -> None:
        self._loads.labels(model, code).inc()

    def model_gone(self, model: str, why: str) -> None:
        self._closed.labels(model, why).inc()

    def show_models(self, registry: Registry) -> None:
        Gauge(*MODELS_LOADED, registry=self.registry).set_function(lambda: len(registry.loaded))
        Gauge(*MODELS_BYTES, registry=self.registry).set_function(lambda: registry.held_bytes)
        Gauge(*MODELS_BUDGET, registry=self.registry).set_function(lambda: registry.room.budget_bytes)

    def import_ended(self, outcome: str) -> None:
        self._imports.labels(outcome).inc()

    def model_came(self, count: int) -> None:
        self._model_bytes.inc(count)

    def model_looked_for(self, found: bool) -> None:
        self._model_cache.labels("yes" if found else "no").inc()

    def show_memory(self, budget: Budget) -> None:
        Gauge(*WORKER_MEMORY_USABLE, registry=self.registry).set_function(lambda: budget.usable_bytes)
        Gauge(*WORKER_MEMORY_GRANTED, registry=self.registry).set_function(lambda: budget.granted_bytes)
        Gauge(*WORKER_MEMORY_WAITING, registry=self.registry).set_function(lambda: budget.waiting)

    def memory_refused(self) -> None:
        self._memory_refused.inc()

    def claim_refused(self) -> None:
        self._refused.inc()

    def ran(self, name: str, version: int, items: int, seconds: float) -> None:
        """As `worker.engine.run_watch.RunWatch`."""
        self._batch_rows.labels(name).observe(items)
        self._run_seconds.labels(name).observe(seconds)

    def waited(self, name: str, version: int, seconds: float) -> None:
        self._batch_waits.labels(name).observe(seconds)

    def run_ended(self, job: Job, state: JobState | None, timings: Mapping[str, float]) -> None:
        """`state` None: the token had become stale and nothing was written."""
        self._runs.labels(job.task, job.model, state.value if state else "stale").inc()
        for stage, seconds in timings.items():
            self._stages.labels(job.task, job.model, stage).observe(seconds)
