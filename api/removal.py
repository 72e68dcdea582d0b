"""The removal of hidden jobs with everything they stored: objects first, rows last, so that what was cut short is
simply done again. The sweeper removes in batches; a DELETE does not wait for it.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from fleet.errors import DependencyError, NotFound
from fleet.logs import get_logger
from fleet.objects import ObjectStore, results_prefix
from fleet.retention import Hidden, Retention
from fleet.uploads import Upload

#: Requests that may be waiting for the object store at once; the others leave it to the sweeper.
_PLACES = 8
log = get_logger(__name__)


@dataclass(frozen=True)
class Removed:
    jobs: int
    objects: int
    uploads: int
    #: Jobs of which the store would not give up an object.
    left: frozenset[UUID]


class Removal:
    """Thread-safe; two at the same jobs are harmless."""

    def __init__(self, retention: Retention, objects: ObjectStore) -> None:
        self.retention = retention
        self.objects = objects
        self._places = threading.BoundedSemaphore(_PLACES)

    def delete(self, job_id: UUID, tenant: str, within_s: float) -> bool:
        """Hides a job from its tenant, and removes it if that can be done within the time; whether all of it is gone.

        Where it is not, the sweeper goes on, as soon as no worker is at it. Raises NotFound `job-not-found`.
        """
        hidden = self.retention.delete(job_id, tenant)
        return hidden is not None and self._at_once(hidden, within_s)

    def remove(self, jobs: Sequence[Hidden]) -> Removed:
        """Raises DependencyError: then nothing of the record is lost, and all of it can be done again.

        Without objects and uploads the store is not asked. URLs that were signed before may serve bytes from a cache,
        or bring some back: those lie under no job then, and are swept as orphans.
        """
        uploads = self.retention.give_up_inputs([job.id for job in jobs])
        owners = {key: job.id for job in jobs for key in self._keys(job)}
        for upload in uploads:
            self._end_multipart(upload)
        refused = self.objects.remove_all([*owners, *(upload.object.key for upload in uploads)])
        left = frozenset(owners[key] for key in refused if key in owners)
        if refused:
            # Keys hold the names of files.
            log.warning(
                "the object store does not remove everything",
                count=len(refused),
                reasons=sorted(set(refused.values())),
                job_ids=[str(job_id) for job_id in sorted(left)[:20]],
            )
        gone = [upload.id for upload in uploads if upload.object.key not in refused]
        count = self.retention.forget([job.id for job in jobs if job.id not in left], gone)
        return Removed(count, len(owners) + len(uploads) - len(refused), len(gone), left)

    def _at_once(self, job: Hidden, within_s: float) -> bool:
        if not self._places.acquire(blocking=False):
            return False
        gone = False

        def work() -> None:
            nonlocal gone
            try:
                gone = job.id not in self.remove([job]).left
            except DependencyError as error:
                log.warning("a deleted job is left to the sweeper", job_id=str(job.id), error=error.code)
            except Exception:
                log.exception("a deleted job is left to the sweeper", job_id=str(job.id))
            finally:
                self._places.release()

        # Not of a pool: a store that hangs for minutes must hold up neither other requests nor the end of the process.
        thread = threading.Thread(target=work, name="removal", daemon=True)
        thread.start()
        thread.join(within_s)
        return gone

    def _keys(self, job: Hidden) -> Iterator[str]:
        prefix = results_prefix(job.id)
        if job.traces:
            yield from self.objects.keys(prefix)
        # What a job refers to is not its own for that.
        yield from (key for key in job.keys if key.startswith(prefix))

    def _end_multipart(self, upload: Upload) -> None:
        if upload.multipart_id is not None:
            with suppress(NotFound):
                self.objects.abort_multipart(upload.object.key, upload.multipart_id)
