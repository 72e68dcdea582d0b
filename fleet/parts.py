"""Parts of a long job: what its attempts have finished, kept for the attempts after them.

    worker keeps    the object first, then its row, which only the current attempt can write
    worker reads    what the row says: an object of another size or digest is not there
    api sweeps      whatever is left once the job has ended: the objects first, then the rows

No object is ever written over: its key has the attempt in it. So a worker that lost its lease and does not know it yet
can change nothing that the new attempt reads.
"""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from fleet.contracts import Job, ObjectRef
from fleet.database import Database, Row
from fleet.errors import NotFound
from fleet.logs import get_logger
from fleet.objects import ObjectStore, results_prefix
from fleet.sql import statements

_SQL = statements("parts")
_MEDIA_TYPE = "application/octet-stream"
log = get_logger(__name__)


@dataclass(frozen=True)
class Needless:
    """A job that has ended and left parts behind."""

    job_id: UUID
    attempt: int


def part_key(job_id: UUID, attempt: int, origin: str, name: str) -> str:
    """Below the job's results, so that they go together; no attempt is called `parts`."""
    return f"{parts_prefix(job_id)}{attempt}/{origin[:16]}/{name}"


def parts_prefix(job_id: UUID) -> str:
    return f"{results_prefix(job_id)}parts/"


def part_of(key: str) -> tuple[UUID, int] | None:
    """Job and attempt that a part belongs to; None for what is not named as one."""
    match key.split("/"):
        case ["results", job_id, "parts", attempt, _, _] if attempt.isascii() and attempt.isdecimal():
            try:
                return UUID(job_id), int(attempt)
            except ValueError:
                return None
    return None


class PartStore:
    """Stateless; thread-safe. `origin` is the digest of everything that a part came of. Raises DependencyError."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def keep(self, job: Job, origin: str, name: str, content: bytes) -> bool:
        """False: the job is not this attempt's any more, and nothing is kept."""
        key = part_key(job.id, job.attempt, origin, name)
        stored = self._objects.put_bytes(key, content, media_type=_MEDIA_TYPE, name=name)
        row = {"id": job.id, "attempt": job.attempt, "origin": origin, "name": name}
        if self._database.one(_SQL["keep_part"], row | {"size": stored.size, "sha256": stored.sha256}) is not None:
            return True
        self._objects.remove(key)
        return False

    def kept(self, job_id: UUID, origin: str) -> dict[str, ObjectRef]:
        """All parts of this origin by name."""
        rows = self._database.run(_SQL["kept_parts"], {"id": job_id, "origin": origin})
        return {row["name"]: self._reference(job_id, origin, row) for row in rows}

    def newest(self, job_id: UUID) -> dict[str, ObjectRef]:
        """All parts by name of the origin that was worked on last: for those who want to see how far a job is."""
        rows = self._database.run(_SQL["newest_parts"], {"id": job_id})
        return {row["name"]: self._reference(job_id, row["origin"], row) for row in rows}

    def _reference(self, job_id: UUID, origin: str, row: Row) -> ObjectRef:
        return ObjectRef(
            bucket=self._objects.bucket,
            key=part_key(job_id, row["attempt"], origin, row["name"]),
            size=row["size"],
            sha256=row["sha256"],
            name=row["name"],
        )

    def read(self, part: ObjectRef) -> bytes | None:
        """None when the object is gone, or is not what was kept."""
        content = bytearray()
        try:
            for chunk in self._objects.stream(part):
                content += chunk
                if len(content) > part.size:
                    break
        except NotFound:
            return None
        if len(content) != part.size or hashlib.sha256(content).hexdigest() != part.sha256:
            log.warning("a kept part is not what was kept", part=part.name, size=len(content), kept_size=part.size)
            return None
        return bytes(content)

    def needless(self, limit: int) -> list[Needless]:
        """Jobs whose parts nobody will read."""
        rows = self._database.run(_SQL["jobs_with_needless_parts"], {"limit": limit})
        return [Needless(row["id"], row["attempt"]) for row in rows]

    def remove(self, job: Needless) -> int:
        """How many objects are gone. Those of attempts that began meanwhile, after a retry by hand, stay."""
        keys = [
            key
            for key in self._objects.keys(parts_prefix(job.job_id))
            if (owner := part_of(key)) is not None and owner[1] <= job.attempt
        ]
        refused = self._objects.remove_all(keys)
        if refused:
            log.warning("parts not removed", count=len(refused), reasons=sorted(set(refused.values())))
        else:
            self._database.run(_SQL["forget_parts"], {"id": job.job_id, "attempt": job.attempt})
        return len(keys) - len(refused)
