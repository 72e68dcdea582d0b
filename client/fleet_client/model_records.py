"""What the server says of models besides their cards: versions on their way in, where they are loaded, how they do."""

from datetime import datetime
from typing import Any

from pydantic import Field

from fleet_client.records import JobFault, Model, Record


class ModelVersion(Record):
    """A version that was brought in, or one of the workers' own folders (`source["kind"]` is then "folder").

    `state` is "requested", "importing", "ready", "failed" or "removing". `progress` runs from 0 to 1. `aliases` point
    to it, or will once it is ready. `report` is what its check has found.
    """

    name: str
    version: int
    state: str
    stage: str | None = None
    progress: float = 0.0
    done_bytes: int = 0
    total_bytes: int | None = None
    source: dict[str, Any] = Field(default_factory=dict)
    aliases: list[str] = Field(default_factory=list)
    report: dict[str, Any] | None = None
    error: JobFault | None = None
    created_at: datetime | None = None
    changed_at: datetime | None = None

    @property
    def arrived(self) -> bool:
        """Whether its import has ended, well or not."""
        return self.state not in ("requested", "importing")


class ModelVersions(Record):
    versions: list[ModelVersion] = Field(default_factory=list)


class ModelList(Record):
    models: list[Model]
    arriving: list[ModelVersion] = Field(default_factory=list)


class ModelOnWorker(Record):
    """`state` is "READY", "LOADING", "UNLOADING" or "UNAVAILABLE"; None: loaded when a job needs it.

    `choice` says why this `provider` was taken, where that was measured; `fallback` what was asked for in its place.
    """

    worker: str
    pool: str | None = None
    device: str | None = None
    state: str | None = None
    reason: str = ""
    memory_bytes: int | None = None
    provider: str = ""
    choice: str = ""
    fallback: str = ""


class ModelVersionStatus(Record):
    """`desire` is "loaded" or "unloaded" where somebody asked for that."""

    version: int
    state: str
    stage: str | None = None
    progress: float = 0.0
    error: JobFault | None = None
    aliases: list[str] = Field(default_factory=list)
    desire: str | None = None
    loaded_workers: int = 0
    workers: list[ModelOnWorker] = Field(default_factory=list)


class ModelStatus(Record):
    """`default_version` is what a request without a version gets."""

    name: str
    default_version: int | None = None
    aliases: dict[str, int] = Field(default_factory=dict)
    versions: list[ModelVersionStatus] = Field(default_factory=list)


class ModelHealth(Record):
    """`status` is "healthy", "degraded" or "unavailable"; `reasons` say why."""

    name: str
    version: int
    status: str
    reasons: list[str] = Field(default_factory=list)
    ready_workers: int = 0
    loaded_workers: int = 0


class Quantiles(Record):
    """Seconds."""

    p50: float
    p95: float
    p99: float


class ModelUsage(Record):
    """Of one version since ever. Seconds are sums over jobs; `items` are those of all batches, in `runs` runs."""

    version: int
    success: int = 0
    failure: int = 0
    items: int = 0
    runs: int = 0
    mean_batch_size: float | None = None
    queue_s: float = 0.0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0
    failure_s: float = 0.0
    last_at: datetime | None = None


class ModelMetrics(Record):
    """Of the jobs that ended in the last `window_s` seconds; `total_s` and `infer_s` of those that succeeded."""

    name: str
    version: int | None = None
    window_s: float
    jobs: int = 0
    per_s: float = 0.0
    states: dict[str, int] = Field(default_factory=dict)
    errors: dict[str, int] = Field(default_factory=dict)
    total_s: Quantiles | None = None
    infer_s: Quantiles | None = None
    mean_batch_size: float | None = None
    usage: list[ModelUsage] = Field(default_factory=list)
