"""How a model does lately, taken from the jobs in the record: rate, times, errors, batches."""

from dataclasses import dataclass

from fleet.database import Database
from fleet.sql import statements

_SQL = statements("model_metrics")
#: Jobs that are looked at, the latest first: a busy hour is not worth reading whole.
AT_MOST = 100_000


@dataclass(frozen=True)
class Quantiles:
    """Seconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class ModelMetrics:
    """Of the jobs that ended within the last `window_s` seconds; times and batch size of those that succeeded."""

    window_s: float
    jobs: int
    states: dict[str, int]
    errors: dict[str, int]
    #: From submit to end.
    total_s: Quantiles | None
    #: In the model, with waiting for a batch.
    infer_s: Quantiles | None
    mean_batch_size: float | None

    @property
    def per_s(self) -> float:
        return self.jobs / self.window_s


class ModelMetricsReader:
    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, name: str, version: int | None, window_s: float) -> ModelMetrics:
        """The window is shorter where more jobs ended in it than are looked at."""
        row = self._database.one(
            _SQL["model_metrics"], {"name": name, "version": version, "window_s": window_s, "limit": AT_MOST}
        )
        assert row is not None  # noqa: S101 (it selects without a table)
        return ModelMetrics(
            window_s=max(row["oldest_s"], 1e-3) if row["jobs"] == AT_MOST else window_s,
            jobs=row["jobs"],
            states=row["states"],
            errors=row["errors"],
            total_s=_quantiles(row["total_s"]),
            infer_s=_quantiles(row["infer_s"]),
            mean_batch_size=row["batch_size"],
        )


def _quantiles(values: list[float | None] | None) -> Quantiles | None:
    """None where no job told."""
    if values is None:
        return None
    p50, p95, p99 = values
    return None if p50 is None or p95 is None or p99 is None else Quantiles(p50, p95, p99)
