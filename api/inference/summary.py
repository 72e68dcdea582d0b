"""GET /api/v1/inference/metrics/summary, as callers get to see it."""

from pydantic import Field

from api.model_metrics_views import QuantilesView
from api.views import View
from fleet.inference_summary import InferenceSummary, Times


class ModelSummaryView(View):
    model: str
    version: int
    jobs: int
    succeeded: int
    failed: int = Field(description="or expired")
    mean_infer_s: float | None
    mean_total_s: float | None


class SummaryView(View):
    """Of your jobs that were submitted in the window; times are of those that succeeded."""

    window_s: float
    jobs: int
    at_least: bool = Field(description="there were more: the newest 20,000 of each state are counted")
    per_s: float
    success_rate: float | None = Field(description="0 to 1, of those that ended; null before any has")
    cached_share: float | None = Field(description="0 to 1: of those, how many found their model loaded")
    states: dict[str, int]
    tasks: dict[str, int]
    errors: dict[str, int] = Field(description="code -> jobs that ended with it")
    total_s: QuantilesView | None = Field(description="from submit to end")
    queue_s: QuantilesView | None = Field(description="until a worker took it")
    infer_s: QuantilesView | None = Field(description="in the network, with waiting for a batch")
    models: list[ModelSummaryView] = Field(description="those with the most jobs, at most a hundred")


def summary_view(summary: InferenceSummary) -> SummaryView:
    ended = sum(count for state, count in summary.states.items() if state not in ("queued", "running"))
    share = summary.cached_share
    return SummaryView(
        window_s=summary.window_s,
        jobs=summary.jobs,
        at_least=summary.at_least,
        per_s=round(summary.jobs / summary.window_s, 6),
        success_rate=round(summary.states.get("succeeded", 0) / ended, 6) if ended else None,
        cached_share=None if share is None else round(share, 6),
        states=summary.states,
        tasks=summary.tasks,
        errors=summary.errors,
        total_s=_view(summary.total_s),
        queue_s=_view(summary.queue_s),
        infer_s=_view(summary.infer_s),
        models=[ModelSummaryView(**model) for model in summary.models],
    )


def _view(times: Times | None) -> QuantilesView | None:
    return None if times is None else QuantilesView(p50=times.p50, p95=times.p95, p99=times.p99)
