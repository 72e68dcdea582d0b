"""What was run of each model version since ever: workers add it up, the front door reads it.

A worker tells about once a second, and what it has not told is lost with it. A connection that breaks right after a
commit may count one such second twice.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime

from psycopg.types.json import Jsonb

from fleet.database import Database
from fleet.sql import statements

_SQL = statements("usage")


@dataclass(frozen=True)
class BatchRuns:
    """Runs of the model with batches of one size, and what they took, all together."""

    runs: int
    ns: int


@dataclass
class UsageDelta:
    """What was run of a model version since the last word. Nanoseconds are sums over jobs.

    `success` and `failure` count jobs; of those that succeeded `queue_ns` is from submit to claim with waiting for the
    model, `input_ns` from there to the model's first run, `infer_ns` in the model with waiting for a batch, `output_ns`
    what follows. `failure_ns` is all the time of those that failed. `runs` of the model had `items` items in all, and
    `batches` tells them apart by size.
    """

    success: int = 0
    failure: int = 0
    items: int = 0
    runs: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    failure_ns: int = 0
    batches: dict[int, BatchRuns] = field(default_factory=dict)

    def ran(self, items: int, seconds: float) -> None:
        """One run of the model, of a batch of `items`."""
        before = self.batches.get(items, BatchRuns(0, 0))
        self.items += items
        self.runs += 1
        self.batches[items] = BatchRuns(before.runs + 1, before.ns + nanoseconds(seconds))


@dataclass(frozen=True)
class Usage:
    """The totals of a model version; see `UsageDelta` for what the figures mean."""

    name: str
    version: int
    success: int = 0
    failure: int = 0
    items: int = 0
    runs: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    failure_ns: int = 0
    #: Batch size -> its runs, the smallest first.
    batches: Mapping[int, BatchRuns] = field(default_factory=dict)
    last_at: datetime | None = None

    @property
    def success_ns(self) -> int:
        return self.queue_ns + self.input_ns + self.infer_ns + self.output_ns

    @property
    def mean_batch_size(self) -> float | None:
        return self.items / self.runs if self.runs else None


class UsageBoard:
    """Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, deltas: Mapping[tuple[str, int], UsageDelta]) -> None:
        """By name and version; one statement."""
        if deltas:
            told = [_told(*key, delta) for key, delta in deltas.items()]
            self._database.run(_SQL["add_usage"], {"deltas": Jsonb(told)})

    def read(self, name: str | None = None, version: int | None = None) -> list[Usage]:
        """Of one version, of one model, or of all, in order; a version that was never run is missing."""
        rows = self._database.run(_SQL["read_usage"], {"name": name, "version": version})
        return [Usage(**(row | {"batches": _batches(row["batches"])})) for row in rows]


def nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


def _told(name: str, version: int, delta: UsageDelta) -> dict[str, object]:
    batches = {str(size): [runs.runs, runs.ns] for size, runs in delta.batches.items()}
    return {**asdict(delta), "name": name, "version": version, "batches": batches}


def _batches(stored: Mapping[str, list[int]]) -> dict[int, BatchRuns]:
    return {size: BatchRuns(*stored[str(size)]) for size in sorted(map(int, stored))}
