"""What became of a tenant's jobs lately, over all models: counts, times, and how often a model was loaded already."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleet.contracts import JobState
from fleet.database import Database
from fleet.ids import least_id_of
from fleet.sql import statements

_SQL = statements("inference_summary")
_STATES = [state.value for state in JobState]
#: Jobs of a state that are looked at, the newest first; and models that are told of, those with the most jobs.
AT_MOST, MODELS_AT_MOST = 20_000, 100


@dataclass(frozen=True)
class Times:
    """Seconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class InferenceSummary:
    """Of the jobs that were submitted within the last `window_s` seconds; times are of those that succeeded."""

    window_s: float
    #: Whether there were more jobs of a state than are looked at.
    at_least: bool
    jobs: int
    states: dict[str, int]
    tasks: dict[str, int]
    errors: dict[str, int]
    models: list[dict[str, Any]]
    cached_share: float | None
    #: From submit to end; until a worker took it; in the network, with waiting for a batch.
    total_s: Times | None
    queue_s: Times | None
    infer_s: Times | None


class InferenceSummaryReader:
    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, tenant: str, window_s: float) -> InferenceSummary:
        since = least_id_of(datetime.now(UTC), -window_s)
        parameters = {"tenant": tenant, "states": _STATES, "since": since, "limit": AT_MOST, "models": MODELS_AT_MOST}
        row = self._database.one(_SQL["inference_summary"], parameters)
        assert row is not None  # noqa: S101 (it selects without a table)
        return InferenceSummary(
            window_s=window_s,
            at_least=any(count >= AT_MOST for count in row["states"].values()),
            jobs=row["jobs"],
            states=row["states"],
            tasks=row["tasks"],
            errors=row["errors"],
            models=row["models"],
            cached_share=row["cached_share"],
            total_s=_times(row["total_s"]),
            queue_s=_times(row["queue_s"]),
            infer_s=_times(row["infer_s"]),
        )


def _times(values: list[float | None] | None) -> Times | None:
    """None where no job told."""
    p50, p95, p99 = values or (None, None, None)
    return None if p50 is None or p95 is None or p99 is None else Times(p50, p95, p99)
