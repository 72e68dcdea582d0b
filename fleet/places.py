"""Where jobs are: in their queue, and how many go before them; or at a worker, and since when."""

from dataclasses import dataclass
from uuid import UUID

from fleet.contracts import Job, Lane, Priority
from fleet.database import Database
from fleet.sql import statements

_SQL = statements("traffic")
#: So far the jobs before one are counted: it costs the same in a queue of a million.
COUNTED_AT_MOST = 1_000
_SAMPLE = 200
#: A larger fleet is shown, and reckoned with, in part.
RUNNING_AT_MOST = 5_000


@dataclass(frozen=True)
class Place:
    """Of a job that waits."""

    #: It has no message in the broker yet: its tenant's turn, or the end of a pause, is still to come.
    held: bool
    #: Seconds until it may be published; 0 for nearly all.
    due_in_s: float
    #: Jobs with a message in the same queue that were published before it, and held ones of its tenant that are due
    #: before it: each exact below COUNTED_AT_MOST, from there on that number.
    published: int
    own_held: int
    #: 0 to 1: how far back it is among those, by the moments at which they came.
    along: float
    #: (model, version, bytes of its inputs) of some that go before it.
    ahead: list[tuple[str, int, int]]

    @property
    def counted(self) -> bool:
        return self.published < COUNTED_AT_MOST and self.own_held < COUNTED_AT_MOST

    @property
    def least(self) -> int:
        """So many go before it for certain."""
        return self.published + self.own_held


@dataclass(frozen=True)
class RunningJob:
    id: UUID
    tenant: str
    model: str
    version: int
    input_bytes: int
    stage: str | None
    progress: float
    priority: Priority
    lane: Lane
    queue: str
    attempt: int
    worker: str
    #: Since this attempt began.
    seconds: float


class Places:
    """Stateless besides the database; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, job: Job) -> Place | None:
        """None when it waits no more. Reads a bounded part of the indexes."""
        row = self._database.one(_SQL["place_in_queue"], {"id": job.id, "at_most": COUNTED_AT_MOST, "sample": _SAMPLE})
        if row is None:
            return None
        ahead = [(model, version, size) for model, version, size in row["ahead"] or ()]
        # All came at one moment: it is in the middle, for all we know.
        along = 0.5 if row["along"] is None else min(1.0, max(0.0, row["along"]))
        return Place(row["held"], row["due_in_s"], row["published"], row["own_held"], along, ahead)

    def held_by_others(self, job: Job, at_most: int) -> dict[str, int]:
        """tenant -> jobs that it holds back in the job's queue, counted up to that number."""
        rows = self._database.run(
            _SQL["held_by_others"], {"queue": job.queue, "tenant": job.tenant, "at_most": at_most}
        )
        return {row["tenant"]: row["jobs"] for row in rows}

    def running(self) -> list[RunningJob]:
        """The oldest RUNNING_AT_MOST."""
        rows = self._database.run(_SQL["running_jobs"], {"at_most": RUNNING_AT_MOST})
        return [RunningJob(**row | {"priority": Priority(row["priority"]), "lane": Lane(row["lane"])}) for row in rows]
