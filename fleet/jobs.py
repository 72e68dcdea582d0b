"""The job record: every write that a job's life needs, each guarded by the fencing token.

The api submits, lists and cancels; workers claim, renew, finish and fail; the reconciler (see `fleet/outbox.py`)
does what got lost. All times are PostgreSQL's clock.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Json, Jsonb

from fleet.contracts import Artifact, Job, JobInput, JobState
from fleet.database import Database, Row
from fleet.errors import Conflict, FleetError, IdempotencyKeyReused, NotFound
from fleet.job_pages import page, words_of
from fleet.job_statements import FINISH, SUBMIT
from fleet.job_values import Claim, Ending, JobFilter, LeaseWord, NewJob, Standing, Submitted, Token
from fleet.queues import QueueKind, queue_name
from fleet.sql import statements

_SQL = statements("jobs")


class JobStore:
    """The verbs on job rows. Stateless besides the database; thread-safe."""

    def __init__(self, database: Database, *, idempotency_ttl_s: float = 86400.0) -> None:
        self._database = database
        self._idempotency_ttl_s = idempotency_ttl_s

    def submit(self, new: NewJob) -> Submitted:
        """Stores the job: when this returns, it is accepted and will not be lost; an `awaited` one once it is claimed.

        Raises IdempotencyKeyReused when the key was used with another body, DependencyError.
        """
        row = self._database.one(
            SUBMIT[new.conditional, new.counted, bool(new.kept)],
            {
                "id": new.id,
                "tenant": new.tenant,
                "task": new.task,
                "model": new.model,
                "version": new.version,
                "lane": new.lane.value,
                "priority": int(new.priority),
                "pool": new.pool.value,
                "queue": queue_name(new.pool, new.lane, new.priority, new.device_policy),
                "device_policy": new.device_policy.value,
                "input_bytes": sum(item.size for item in new.inputs),
                "route_reason": new.route_reason,
                "params": Jsonb(new.params),
                "inputs": Jsonb([item.model_dump(mode="json") for item in new.inputs]),
                "labels": Jsonb(new.labels),
                "words": words_of(new.task, new.model, new.priority, new.labels),
                "max_attempts": new.max_attempts,
                "deadline_s": new.deadline_s,
                "execution_timeout_s": new.execution_timeout_s,
                "retention_s": new.retention_s,
                "trace_context": new.trace_context,
                "callback": Jsonb(new.callback.model_dump(mode="json")) if new.callback else None,
                "published": new.published,
                "awaited": new.awaited,
                "window": new.window,
                "kept_numbers": list(new.kept),
                "kept_contents": list(new.kept.values()),
                "uploads": sorted(set(new.uploads)),
                "source_jobs": sorted(set(new.source_jobs)),
                "idempotency_key": new.idempotency_key,
                "fingerprint": new.fingerprint,
                "idempotency_ttl_s": self._idempotency_ttl_s,
            },
        )
        if row is not None:
            return Submitted(_job(row), False, row["published_at"] is None, row["tenant_published"])
        return self._not_stored_now(new)

    def _not_stored_now(self, new: NewJob) -> Submitted:
        """The statement gave no row: it was a repeat of ours, the key is taken, or an upload has gone."""
        own = self._database.one(_SQL["get_job"], {"id": new.id, "tenant": new.tenant})
        if own is not None:
            return Submitted(_job(own), replayed=False, held=own["published_at"] is None)
        if new.idempotency_key is not None:
            earlier = self.find_by_key(new.tenant, new.idempotency_key, new.fingerprint)
            if earlier is not None:
                return Submitted(earlier, replayed=True)
        if new.uploads:
            raise NotFound(
                "an upload of this job has just been deleted: upload the file again", code="upload-not-found"
            )
        if new.source_jobs:
            raise NotFound("a job whose result this one reads has just been deleted", code="object-not-found")
        raise Conflict("a request with the same Idempotency-Key is just being stored: repeat it in a second")

    def find_by_key(self, tenant: str, key: str, body_fingerprint: str) -> Job | None:
        """The job that this key already stands for. Raises IdempotencyKeyReused for another body."""
        row = self._database.one(_SQL["find_by_key"], {"tenant": tenant, "key": key})
        if row is None:
            return None
        if row["fingerprint"] != body_fingerprint:
            raise IdempotencyKeyReused(
                f"the Idempotency-Key {key!r} was used before with another body: "
                "use a new key for a new job, or repeat the first body",
                job_id=str(row["id"]),
            )
        return _job(row)

    def publication_failed(self, job: Job) -> None:
        self._database.run(_SQL["publication_failed"], {"id": job.id, "publish_seq": job.publish_seq})

    def get(self, job_id: UUID, tenant: str | None = None) -> Job:
        """Raises NotFound `job-not-found`; a tenant does not see the jobs of others."""
        row = self._database.one(_SQL["get_job"], {"id": job_id, "tenant": tenant})
        if row is None:
            raise NotFound(f"there is no job {job_id}", code="job-not-found", job_id=str(job_id))
        return _job(row)

    def existing(self, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
        """Those of these jobs that are not deleted."""
        return {row["id"]: _job(row) for row in self._database.run(_SQL["existing_jobs"], {"ids": list(job_ids)})}

    def page(self, tenant: str, where: JobFilter, *, limit: int, before: UUID | None = None) -> list[Job]:
        """Newest first; `before` is the id of the last job of the page before."""
        return [_job(row) for row in page(self._database, tenant, where, limit=limit, before=before)]

    def standings(self, job_ids: Sequence[UUID]) -> dict[UUID, Standing]:
        """How far each of these jobs is; one that was deleted, or never was, is missing."""
        rows = self._database.run(_SQL["job_standings"], {"ids": list(job_ids)})
        return {row["id"]: Standing(row["revision"], row["ended"]) for row in rows}

    def claim(
        self,
        job_id: UUID,
        worker: str,
        lease_s: float,
        seq: int = 0,
        *,
        alone: bool = True,
        owner: str | None = None,
        kind: QueueKind | None = None,
    ) -> Claim | None:
        """Takes the job for one attempt; None when the message was a duplicate, stale or of an ended job.

        `seq` is that of the message through which the job was heard of. Whoever will not run it alone in its process
        says so, and does not get a job that may be what killed its workers (see `runs_alone`). Whoever asks again after
        a DependencyError gives the same `owner` again (see `lease_owner`), and is told of a claim that he won unheard.
        `kind` is that of the queue the message lay in: once the job has moved to the other pool, that message is void.
        """
        owner = owner or lease_owner(worker)
        heard = kind.value if kind is not None else None
        row = self._database.one(
            _SQL["claim_job"],
            {"id": job_id, "owner": owner, "lease_s": lease_s, "seq": seq, "alone": alone, "kind": heard},
        )
        return Claim(_job(row), float(row["waited_s"])) if row else None

    def runs_alone(self, job_id: UUID) -> bool:
        """Whether the job waits for its last attempt and has lost workers: with others beside it, it may kill them."""
        return self._database.one(_SQL["runs_alone"], {"id": job_id}) is not None

    def renew(self, held: Sequence[Token], lease_s: float) -> dict[Token, LeaseWord]:
        """Renews all leases of a process; a token that is missing from the answer is stale."""
        return self._words("renew_leases", held, lease_s=lease_s)

    def watch(self, held: Sequence[Token]) -> dict[Token, LeaseWord]:
        """The same question between two renewals, without a write."""
        return self._words("watch_leases", held)

    def _words(self, block: str, held: Sequence[Token], **more: float) -> dict[Token, LeaseWord]:
        ids, attempts = [job_id for job_id, _ in held], [attempt for _, attempt in held]
        rows = self._database.run(_SQL[block], {"ids": ids, "attempts": attempts, **more})
        return {(row["id"], row["attempt"]): LeaseWord(row["cancel_requested"], row["overdue"]) for row in rows}

    def note_progress(self, notes: Sequence[tuple[UUID, int, str | None, float]]) -> None:
        """(job, attempt, stage, 0..1) of several jobs in one statement; stale tokens are ignored."""
        ids, attempts, stages, progress = (list(column) for column in zip(*notes, strict=True))
        self._database.run(
            _SQL["note_progress"], {"ids": ids, "attempts": attempts, "stages": stages, "progress": progress}
        )

    def finish(
        self,
        job: Job,
        *,
        result: dict[str, Any],
        artifacts: Sequence[Artifact],
        inputs: list[JobInput],
        ending: Ending,
    ) -> Job | None:
        """Commits the attempt's result; None when the token is stale and nothing was written."""
        row = self._database.one(
            FINISH[any(item.kept is not None for item in job.inputs)],
            {
                "id": job.id,
                "attempt": job.attempt,
                **_ending(ending),
                "result": Json(result),
                "artifacts": Jsonb([artifact.model_dump(mode="json") for artifact in artifacts]),
                # Small ones lie in the row, and would be written once more.
                "inputs": Jsonb([item.model_dump(mode="json") for item in inputs]) if inputs != job.inputs else None,
            },
        )
        if row is None:
            return self.won(job)
        done = {"state": JobState.SUCCEEDED, "result": result, "artifacts": list(artifacts), "inputs": inputs}
        told = {"timings": dict(ending.timings), "ran_on": ending.ran_on, "stage": None, "progress": 1.0}
        return job.model_copy(update={**row, **done, **told})

    def won(self, job: Job) -> Job | None:
        """The job, if it was this very attempt that succeeded."""
        return self._end("won_job", job, {})

    def fail(self, job: Job, error: FleetError, ending: Ending) -> Job | None:
        """Ends the attempt: queued again when retryable and attempts are left, else failed. None: stale token."""
        return self._end(
            "fail_job", job, _ending(ending) | {"error": Jsonb(error.as_dict()), "retryable": error.retryable}
        )

    def stop(self, job: Job, state: JobState, error: FleetError | None, ending: Ending) -> Job | None:
        """Confirms that a run which was asked to end has ended: cancelled or expired. None: stale token."""
        return self._end(
            "stop_job",
            job,
            _ending(ending) | {"state": state.value, "error": Jsonb(error.as_dict()) if error else None},
        )

    def hand_back(self, job: Job, reason: str, pause_s: float = 0.0) -> Job | None:
        """Returns the lease without spending the attempt; published again after the pause. None: stale token."""
        return self._end("hand_back_job", job, {"pause_s": pause_s, "reason": reason})

    def _end(self, block: str, job: Job, values: Mapping[str, Any]) -> Job | None:
        row = self._database.one(_SQL[block], {"id": job.id, "attempt": job.attempt, **values})
        return _job(row) if row else None

    def cancel(self, job_id: UUID, tenant: str) -> Job:
        """Asks for the end of a job; idempotent. Raises NotFound, Conflict `job-already-ended`."""
        row = self._database.one(_SQL["cancel_job"], {"id": job_id, "tenant": tenant})
        job = _job(row) if row else self.get(job_id, tenant)
        if row is None and job.state is not JobState.CANCELLED:
            raise Conflict(
                f"job {job_id} has already ended: it is {job.state.value}",
                code="job-already-ended",
                state=job.state.value,
            )
        return job

    def retry(self, job_id: UUID, tenant: str, deadline_s: float | None = None) -> Job:
        """Queues a job that ended without success once more, with all its attempts; publish it then.

        `deadline_s` counts from now; None takes the length that the job had at first.
        Raises NotFound, Conflict `job-not-ended` or `job-succeeded`.
        """
        seen = self.get(job_id, tenant).retries
        row = self._database.one(
            _SQL["retry_job"], {"id": job_id, "tenant": tenant, "deadline_s": deadline_s, "retries": seen}
        )
        job = _job(row) if row else self.get(job_id, tenant)
        if job.retries > seen:
            # Also without a row: the answer got lost, or somebody else asked for the same in this moment.
            return job
        if job.state is JobState.SUCCEEDED:
            raise Conflict(f"job {job_id} has succeeded: submit it again for another run", code="job-succeeded")
        raise Conflict(
            f"job {job_id} has not ended: it is {job.shown_state.value}",
            code="job-not-ended",
            state=job.shown_state.value,
        )

    def bury(self, worker: str, pid: int, how: str) -> list[UUID]:
        """Notes how a worker process ended, and ends its leases at once; the jobs that it held."""
        rows = self._database.run(_SQL["bury_worker"], {"worker": worker, "pid": pid, "how": how})
        return [row["id"] for row in rows]


def lease_owner(worker: str) -> str:
    """Unique, so that a repeat after a lost answer finds its own claim and not a stranger's. With the process, so that
    whoever sees it die can end its leases.
    """
    return f"{worker}#{os.getpid()}#{secrets.token_hex(4)}"


def _ending(ending: Ending) -> dict[str, Any]:
    return {
        "timings": Jsonb(dict(ending.timings)),
        "ran_on": Jsonb(ending.ran_on.model_dump(mode="json")) if ending.ran_on else None,
    }


def _job(row: Row) -> Job:
    return Job.model_validate(row)
