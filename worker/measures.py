"""What a worker counts about itself. Names and help texts are in `fleet/metrics.py`."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from fleet.contracts import Job, JobState
from fleet.metrics import (
    WORKER_CLAIMS_REFUSED,
    WORKER_RUNS,
    WORKER_STAGE_SECONDS,
    WORKER_STAGE_SECONDS_BUCKETS,
)


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

    def claim_refused(self) -> None:
        self._refused.inc()

    def run_ended(self, job: Job, state: JobState | None, timings: Mapping[str, float]) -> None:
        """`state` None: the token had become stale and nothing was written."""
        self._runs.labels(job.task, job.model, state.value if state else "stale").inc()
        for stage, seconds in timings.items():
            self._stages.labels(job.task, job.model, stage).observe(seconds)
