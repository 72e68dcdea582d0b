"""What the leader asks of the record: what to publish, lapsed leases, passed deadlines, messages that the broker lost.

The job row is the outbox. A publication is only a hint; these statements find the hints that got lost without
looking at every waiting job (decision 0002), and take from what waits for its turn without counting it (decision 0010).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

from fleet.contracts import Job
from fleet.database import Database
from fleet.queues import ALL_QUEUES
from fleet.sql import statements

_SQL = statements("jobs") | statements("outbox")
_UPLOADS = statements("uploads")
#: How far the jobs of a queue are counted: a figure that is asked for every few seconds costs the same at any depth.
COUNTED_AT_MOST = 1_000


#: A queue is counted no further: what lies deeper was published without regard to shares, by a version before.
COUNTED_PUBLISHED = 20_000
#: Jobs of one tenant that are due in one queue.
Pair = tuple[str, str]


@dataclass(frozen=True)
class Publication:
    """A message to send: see `fleet.broker.message`."""

    job_id: UUID
    queue: str
    tenant: str
    seq: int
    task: str
    model: str
    #: Before all that wait in the queue: it had its turn, and lost its worker.
    first: bool
    published_at: datetime


@dataclass(frozen=True)
class Published:
    """Messages of one tenant in one queue."""

    jobs: int
    #: Of these, how many were there at the moment that was asked about.
    older: int
    newest: datetime


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

    def due(self) -> dict[Pair, bool]:
        """(queue, tenant) of all that is to be published; True where some of it goes at once, whatever waits.

        What a newer version put into a queue that only it knows is left to its own leader.
        """
        rows = self._database.run(_SQL["due_pairs"])
        return {(row["queue"], row["tenant"]): row["at_once"] for row in rows if row["queue"] in ALL_QUEUES}

    def published(
        self, since: Mapping[str, datetime | None], lost_before: datetime | None = None
    ) -> dict[Pair, Published]:
        """What has a message in these queues, each with the moment that `Published.older` is about."""
        parameters = {
            "queues": list(since),
            "since": list(since.values()),
            "lost": lost_before,
            "at_most": COUNTED_PUBLISHED,
        }
        rows = self._database.run(_SQL["count_published"], parameters)
        return {(row["queue"], row["tenant"]): Published(row["jobs"], row["older"], row["newest"]) for row in rows}

    def take(self, rooms: Mapping[Pair, int], *, at_once: bool = False) -> list[Publication]:
        """Marks up to so many jobs of each pair as published and returns them in their order: publish them now."""
        parameters = {
            "queues": [queue for queue, _ in rooms],
            "tenants": [tenant for _, tenant in rooms],
            "rooms": list(rooms.values()),
            "at_once": at_once,
        }
        rows = self._database.run(_SQL["take_due"], parameters)
        return [
            Publication(
                row["id"],
                row["queue"],
                row["tenant"],
                row["publish_seq"],
                row["task"],
                row["model"],
                row["first"],
                row["published_at"],
            )
            for row in sorted(rows, key=lambda row: (row["publish_after"], row["id"]))
        ]

    def unpublish(self, publications: Sequence[Publication]) -> None:
        """The broker refused them after they were taken: due again."""
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
