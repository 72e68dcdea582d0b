"""What the record keeps and for how long: jobs that are deleted or whose time is over, and what they stored.

A job goes in this order, and every step may be done again: it is hidden (nobody sees, retries or reads it any more), no
submit can take the uploads that it alone used, the objects are removed (`api/removal.py`), and the row goes last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

from fleet.contracts import JobState, Stage
from fleet.database import Database, Row
from fleet.errors import NotFound
from fleet.sql import statements
from fleet.uploads import Upload, upload_of

_SQL = statements("retention")
_FIRST = ("-infinity", UUID(int=0))


@dataclass(frozen=True)
class Hidden:
    """A job that nobody sees and no worker is at: what it stored goes now."""

    id: UUID
    hidden_at: datetime
    #: Keys of the objects that the record names.
    keys: list[str]
    #: An attempt may have left objects that the record does not name: they lie under the job's prefix.
    traces: bool


@dataclass(frozen=True)
class Fate:
    """What has become of a job, for whoever finds objects of one of its attempts."""

    state: JobState
    attempt: int

    def may_need(self, attempt: int) -> bool:
        """Whether objects of that attempt are, or can still become, a result. Once False it stays so: tokens grow."""
        if attempt != self.attempt:
            return attempt > self.attempt
        return self.state in (JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED)


@dataclass(frozen=True)
class UploadFate:
    #: Bytes may still be on their way.
    pending: bool
    #: Jobs have used it, and all of them are gone.
    abandoned: bool


class Retention:
    """Stateless besides the database; thread-safe. Safe to use from several processes at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def delete(self, job_id: UUID, tenant: str) -> Hidden | None:
        """Hides a job at once and asks for its end; None while a worker is at it.

        Raises NotFound `job-not-found`, also for one that is hidden already: a repeat whose first answer got lost.
        """
        row = self._database.one(_SQL["delete_job"], {"id": job_id, "tenant": tenant})
        if row is None:
            raise NotFound(f"there is no job {job_id}", code="job-not-found", job_id=str(job_id))
        return _hidden(row) if JobState(row["state"]).ended else None

    def expired(self, limit: int) -> list[UUID]:
        """Ended jobs whose time is over and that nobody needs any more: hide them."""
        return [row["id"] for row in self._database.run(_SQL["expired_jobs"], {"limit": limit})]

    def hide(self, job_ids: Sequence[UUID]) -> int:
        """Hides those of the expired jobs that are so still; how many."""
        (row,) = self._database.run(_SQL["hide_expired_jobs"], {"ids": list(job_ids)})
        return cast(int, row["jobs"])

    def hidden(self, limit: int, after: Hidden | None = None) -> list[Hidden]:
        """A page of those to be removed, longest hidden first."""
        after_at, after_id = (after.hidden_at, after.id) if after else _FIRST
        rows = self._database.run(_SQL["hidden_jobs"], {"limit": limit, "after_at": after_at, "after_id": after_id})
        return [_hidden(row) for row in rows]

    def hidden_for_s(self) -> float:
        """Seconds that the longest hidden job has waited to be removed."""
        (row,) = self._database.run(_SQL["hidden_for"])
        return cast(float, row["seconds"] or 0.0)

    def give_up_inputs(self, job_ids: Sequence[UUID]) -> list[Upload]:
        """Uploads that only these hidden jobs used: from now on no submit can take them."""
        return [upload_of(row) for row in self._database.run(_SQL["give_up_inputs"], {"ids": list(job_ids)})]

    def forget(self, job_ids: Sequence[UUID], upload_ids: Sequence[UUID]) -> int:
        """Removes hidden jobs and given-up uploads whose objects are gone, with all rows about them; how many jobs."""
        return len(self._database.run(_SQL["forget_jobs"], {"ids": list(job_ids), "uploads": list(upload_ids)}))

    def fates(self, job_ids: Sequence[UUID]) -> dict[UUID, Fate]:
        """A job that is missing here is gone for good."""
        rows = self._database.run(_SQL["fates"], {"ids": list(job_ids)})
        return {row["id"]: Fate(JobState(row["state"]), row["attempt"]) for row in rows}

    def upload_fates(self, upload_ids: Sequence[UUID]) -> dict[UUID, UploadFate]:
        """An upload that is missing here is gone, or its row is just about to be made."""
        rows = self._database.run(_SQL["upload_fates"], {"ids": list(upload_ids)})
        return {row["id"]: UploadFate(row["pending"], row["abandoned"]) for row in rows}

    def model_fates(self, versions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The first attempt to bring a version in whose files may be needed; one that is missing here is gone."""
        values = {"names": [name for name, _ in versions], "versions": [version for _, version in versions]}
        rows = self._database.run(_SQL["model_fates"], values)
        return {(row["name"], row["version"]): row["needed_from"] for row in rows}

    def give_up_abandoned(self, upload_ids: Sequence[UUID]) -> int:
        """Those that no job needs become unused and stale, see `UploadStore.stale`; how many."""
        (row,) = self._database.run(_SQL["give_up_abandoned"], {"ids": list(upload_ids)})
        return cast(int, row["uploads"])

    def identity(self) -> UUID:
        """The name of this record among all that there are."""
        (row,) = self._database.run(_SQL["record_identity"])
        return cast(UUID, row["id"])


def _hidden(row: Row) -> Hidden:
    # A worker that could say how its only attempt ended has tidied up, unless it was killed at that.
    lost = row["attempt"] > 1 or any(note["outcome"] != "failed" for note in row["history"])
    stored = row["state"] != JobState.SUCCEEDED.value and Stage.STORE.value in row["timings"]
    keys = [artifact["object"]["key"] for artifact in row["artifacts"]]
    return Hidden(row["id"], row["deleted_at"], keys, traces=lost or stored or row["parts"])
