"""What waits and what runs, as the leader asks the record for it once a second.

A deep backlog takes long to count, so how long the last count took decides when the next one is worth it.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fleet.contracts import Lane
from fleet.database import Database
from fleet.queues import ALL_QUEUES
from fleet.sql import statements

_SQL = statements("traffic")
#: A count that took longer than this, in seconds, is repeated when so many times as long has passed.
_LONG_S, _PATIENCE = 0.05, 20.0
#: So many of a queue's first jobs stand for all of it.
_SAMPLE = 300


@dataclass
class Waiting:
    """One queue."""

    published: int = 0
    held: int = 0
    #: Of the job that has waited longest, in seconds.
    oldest_s: float = 0.0
    #: tenant -> jobs.
    tenants: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """Jobs that take equally long, as far as anybody knows."""

    model: str
    version: int
    bucket: int
    jobs: int


@dataclass(frozen=True)
class Running:
    worker: str
    lane: Lane
    model: str
    version: int
    bucket: int
    running_s: float


class Census:
    """Used by one thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, Waiting] = {}
        self._again_at = float("-inf")
        #: When what waits was counted last.
        self.counted_at: datetime | None = None

    def waiting(self) -> dict[str, Waiting]:
        """By queue, without the empty ones. Of a deep backlog, what was counted last."""
        began = time.monotonic()
        if began < self._again_at:
            return self._waiting
        counted_at = datetime.now(UTC)
        found: dict[str, Waiting] = {}
        for row in self._database.run(_SQL["census"], {"queues": list(ALL_QUEUES)}):
            queue = found.setdefault(row["queue"], Waiting())
            if row["held"]:
                queue.held += row["jobs"]
            else:
                queue.published += row["jobs"]
            queue.oldest_s = max(queue.oldest_s, row["oldest_s"])
            queue.tenants[row["tenant"]] = queue.tenants.get(row["tenant"], 0) + row["jobs"]
        ended = time.monotonic()
        if ended - began > _LONG_S:
            self._again_at = ended + _PATIENCE * (ended - began)
        self._waiting, self.counted_at = found, counted_at
        return found

    def kinds(self, queues: Iterable[str]) -> dict[str, list[Kind]]:
        """What waits first in each of these queues."""
        names = list(queues)
        found: dict[str, list[Kind]] = {name: [] for name in names}
        if names:
            for row in self._database.run(_SQL["waiting_kinds"], {"queues": names, "at_most": _SAMPLE}):
                found[row["queue"]].append(Kind(row["model"], row["version"], row["bucket"], row["jobs"]))
        return found

    def aged(self) -> dict[str, int]:
        """Queue -> jobs in it that were asked for with a lower priority."""
        rows = self._database.run(_SQL["aged_waiting"])
        return {row["queue"]: row["jobs"] for row in rows if row["queue"] in ALL_QUEUES}

    def running(self) -> Sequence[Running]:
        return [
            Running(row["worker"], Lane(row["lane"]), row["model"], row["version"], row["bucket"], row["running_s"])
            for row in self._database.run(_SQL["running"])
        ]
