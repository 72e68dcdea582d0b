"""What the reconciler asks of the record: lapsed leases, passed deadlines, and messages that the broker lost.

The job row is the outbox. A publication is only a hint; these statements find the hints that got lost without
looking at every waiting job (decision 0002).
"""

from dataclasses import dataclass
from uuid import UUID

from fleet.contracts import Job
from fleet.database import Database
from fleet.sql import statements

_SQL = statements("jobs")
_UPLOADS = statements("uploads")


@dataclass(frozen=True)
class Publication:
    job_id: UUID
    queue: str
    seq: int


@dataclass(frozen=True)
class Waiting:
    """One queue as the record sees it."""

    queue: str
    count: int
    oldest_s: float


class Outbox:
    def __init__(self, database: Database) -> None:
        self._database = database

    def lapse_leases(self) -> list[Job]:
        """Running jobs whose worker is gone: queued again, or ended. At most 500 a call."""
        return [Job.model_validate(row) for row in self._database.run(_SQL["lapse_leases"])]

    def expire_queued(self) -> list[Job]:
        """Queued jobs past their deadline, now expired. At most 500 a call."""
        return [Job.model_validate(row) for row in self._database.run(_SQL["expire_queued"])]

    def take_unpublished(self, limit: int) -> list[Publication]:
        """Marks due jobs as published and returns them: publish them now."""
        rows = self._database.run(_SQL["take_unpublished"], {"limit": limit})
        return [Publication(row["id"], row["queue"], row["publish_seq"]) for row in rows]

    def forget_publications(self, before: object) -> None:
        """The broker lost everything that was published before that moment of the database's clock."""
        self._database.run(_SQL["forget_publications"], {"before": before})

    def forget_overtaken(self, queue: str, *, empty: bool, grace_s: float, limit: int) -> int:
        """How many jobs of a queue turned out to have lost their message; they are due again."""
        parameters = {"queue": queue, "empty": empty, "grace_s": grace_s, "limit": limit}
        return len(self._database.run(_SQL["forget_overtaken"], parameters))

    def waiting(self) -> list[Waiting]:
        rows = self._database.run(_SQL["waiting_queues"])
        return [Waiting(row["queue"], row["waiting"], row["oldest_s"]) for row in rows]

    def now(self) -> object:
        """The database's clock."""
        row = self._database.one(_SQL["now"])
        assert row is not None  # noqa: S101 (a SELECT without FROM has one row)
        return row["now"]

    def forget_idempotency_keys(self) -> None:
        self._database.run(_UPLOADS["forget_idempotency_keys"])
