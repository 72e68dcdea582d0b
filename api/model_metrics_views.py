"""How models do, as callers get to see it: health, figures of lately, use since ever."""

from typing import Literal

from pydantic import Field

from api.views import Moment, View
from fleet.model_metrics import ModelMetrics
from fleet.usage import Usage


class HealthView(View):
    name: str
    version: int
    status: Literal["healthy", "degraded", "unavailable"]
    reasons: list[str]
    ready_workers: int = Field(description="that can take its jobs")
    loaded_workers: int
    recent_jobs: int = Field(description="that ended in the last five minutes")
    recent_failures: int


class QuantilesView(View):
    """Seconds."""

    p50: float
    p95: float
    p99: float


class BatchesView(View):
    runs: int
    seconds: float


class UsageView(View):
    """Since ever. Seconds are sums over jobs."""

    version: int
    success: int
    failure: int
    items: int = Field(description="of all batches")
    runs: int = Field(description="of the model")
    mean_batch_size: float | None
    queue_s: float
    input_s: float
    infer_s: float
    output_s: float
    failure_s: float
    batches: dict[int, BatchesView] = Field(description="by batch size")
    last_at: Moment | None


class MetricsView(View):
    name: str
    version: int | None = Field(description="null: all")
    window_s: float
    jobs: int = Field(description="that ended in the window")
    per_s: float
    states: dict[str, int]
    errors: dict[str, int] = Field(description="code -> jobs that ended with it")
    total_s: QuantilesView | None = Field(description="from submit to end, of jobs that succeeded")
    infer_s: QuantilesView | None = Field(description="in the model, with waiting for a batch")
    mean_batch_size: float | None
    usage: list[UsageView] = Field(description="since ever, by version")


def metrics_view(name: str, version: int | None, metrics: ModelMetrics, usage: list[Usage]) -> MetricsView:
    return MetricsView(
        name=name,
        version=version,
        window_s=metrics.window_s,
        jobs=metrics.jobs,
        per_s=round(metrics.per_s, 6),
        states=metrics.states,
        errors=metrics.errors,
        total_s=None if metrics.total_s is None else QuantilesView(**vars(metrics.total_s)),
        infer_s=None if metrics.infer_s is None else QuantilesView(**vars(metrics.infer_s)),
        mean_batch_size=metrics.mean_batch_size,
        usage=[_usage(used) for used in usage],
    )


def _usage(used: Usage) -> UsageView:
    seconds = {
        f"{name}_s": getattr(used, f"{name}_ns") / 1e9 for name in ("queue", "input", "infer", "output", "failure")
    }
    return UsageView(
        version=used.version,
        success=used.success,
        failure=used.failure,
        items=used.items,
        runs=used.runs,
        mean_batch_size=used.mean_batch_size,
        **seconds,
        batches={size: BatchesView(runs=each.runs, seconds=each.ns / 1e9) for size, each in used.batches.items()},
        last_at=used.last_at,
    )
