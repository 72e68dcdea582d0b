"""What a worker counts about itself. Names and help texts are in `fleet/metrics.py`."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fleet.contracts import Job, JobState
from fleet.metrics import (
    WORKER_CLAIMS_REFUSED,
    WORKER_MEMORY_GRANTED,
    WORKER_MEMORY_REFUSED,
    WORKER_MEMORY_USABLE,
    WORKER_MEMORY_WAITING,
    WORKER_RUNS,
    WORKER_STAGE_SECONDS,
    WORKER_STAGE_SECONDS_BUCKETS,
)
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

    def show_memory(self, budget: Budget) -> None:
        Gauge(*WORKER_MEMORY_USABLE, registry=self.registry).set_function(lambda: budget.usable_bytes)
        Gauge(*WORKER_MEMORY_GRANTED, registry=self.registry).set_function(lambda: budget.granted_bytes)
        Gauge(*WORKER_MEMORY_WAITING, registry=self.registry).set_function(lambda: budget.waiting)

    def memory_refused(self) -> None:
        self._memory_refused.inc()

    def claim_refused(self) -> None:
        self._refused.inc()

    def run_ended(self, job: Job, state: JobState | None, timings: Mapping[str, float]) -> None:
        """`state` None: the token had become stale and nothing was written."""
        self._runs.labels(job.task, job.model, state.value if state else "stale").inc()
        for stage, seconds in timings.items():
            self._stages.labels(job.task, job.model, stage).observe(seconds)
