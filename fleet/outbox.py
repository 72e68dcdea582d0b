"""What the reconciler asks of the record: lapsed leases, passed deadlines, and messages that the broker lost.

The job row is the outbox. A publication is only a hint; these statements find the hints that got lost without
looking at every waiting job (decision 0002).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

from fleet.contracts import Job
from fleet.database import Database
from fleet.sql import statements

_SQL = statements("jobs")
_UPLOADS = statements("uploads")
#: How far the jobs of a queue are counted: a figure that is asked for every few seconds costs the same at any depth.
COUNTED_AT_MOST = 1_000


@dataclass(frozen=True)
class Publication:
    """A message to send: see `fleet.broker.message`."""

    job_id: UUID
    queue: str
    seq: int
    task: str
    model: str
    #: Before all that wait in the queue: it had its turn, and lost its worker.
    first: bool


@dataclass(frozen=True)
class Waiting:
    """One queue as the record sees it."""

    queue: str
    #: Exact below COUNTED_AT_MOST; from there on that number.
    count: int
    #: Of the jobs that were published first.
    oldest_s: float


class Outbox:
    def __init__(self, database: Database) -> None:
        self._database = database

    def lapse_leases(self, grace_s: float = 0.0) -> list[Job]:
        """Running jobs whose lease ended longer than the grace ago: queued again, or ended. At most 500 a call."""
        rows = self._database.run(_SQL["lapse_leases"], {"grace_s": grace_s})
        return [Job.model_validate(row) for row in rows]

    def expire_queued(self) -> list[Job]:
        """Queued jobs past their deadline, now expired. At most 500 a call."""
        return [Job.model_validate(row) for row in self._database.run(_SQL["expire_queued"])]

    def take_unpublished(self, limit: int) -> list[Publication]:
        """Marks due jobs as published and returns them: publish them now."""
        rows = self._database.run(_SQL["take_unpublished"], {"limit": limit})
        return [
            Publication(row["id"], row["queue"], row["publish_seq"], row["task"], row["model"], row["first"])
            for row in rows
        ]

    def unpublish(self, publications: Sequence[Publication]) -> None:
        """The broker refused them after they were taken: due again in a second."""
        ids, seqs = [item.job_id for item in publications], [item.seq for item in publications]
        self._database.run(_SQL["unpublish"], {"ids": ids, "seqs": seqs})

    def forget_publications(self, queue: str, before: datetime, limit: int) -> int:
        """The broker lost what was published before that moment of the database's clock: it is due again.

        At most `limit` jobs, the longest published first; how many they were. 0: no more are left.
        """
        parameters = {"queue": queue, "before": before, "limit": limit}
        (row,) = self._database.run(_SQL["forget_publications"], parameters)
        return cast(int, row["jobs"])

    def overdue_queues(self, names: Sequence[str], grace_s: float) -> list[str]:
        """Those of the queues in which a published job has waited longer than the grace."""
        rows = self._database.run(_SQL["overdue_queues"], {"queues": list(names), "grace_s": grace_s})
        return [row["name"] for row in rows]

    def forget_overtaken(self, queue: str, *, empty: bool, grace_s: float, limit: int) -> int:
        """How many jobs of a queue turned out to have lost their message; they are due again."""
        parameters = {"queue": queue, "empty": empty, "grace_s": grace_s, "limit": limit}
        return len(self._database.run(_SQL["forget_overtaken"], parameters))

    def waiting(self, names: Sequence[str]) -> list[Waiting]:
        """Those of the queues in which anything waits."""
        rows = self._database.run(_SQL["waiting_queues"], {"queues": list(names), "at_most": COUNTED_AT_MOST})
        return [Waiting(row["queue"], row["waiting"], row["oldest_s"]) for row in rows]

    def now(self) -> datetime:
        """The database's clock."""
        (row,) = self._database.run(_SQL["now"])
        return cast(datetime, row["now"])

    def forget_deaths(self, older_s: float) -> None:
        """Worker processes that ended so long ago: no lease of theirs can still be open."""
        self._database.run(_SQL["forget_deaths"], {"older_s": older_s})

    def forget_idempotency_keys(self) -> None:
        self._database.run(_UPLOADS["forget_idempotency_keys"])
