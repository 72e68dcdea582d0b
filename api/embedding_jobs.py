"""One job of embeddings from its texts to its vectors: submit, wait for its end, read its result."""

import asyncio
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.embedding_errors import error_of, not_in_time
from api.embedding_input import as_input
from api.requests import InputRequest, JobRequest
from api.submission import Caller, Submission
from api.tickets import Tickets
from api.waiting import Waiters
from fleet.contracts import Job, JobState, PriorityName
from fleet.embeddings import TASK_NAME, EmbeddingResult, JobParams, Texts, fault
from fleet.errors import Busy, Conflict, DependencyError, FleetError, ModelError, NotFound
from fleet.ids import new_id
from fleet.job_values import Submitted
from fleet.jobs import JobStore
from fleet.logs import get_logger
from fleet.objects import ObjectStore

log = get_logger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A job that is to be. `model` may name a version; else `version` may."""

    model: str
    texts: Texts
    params: JobParams
    caller: Caller
    priority: PriorityName
    #: From submit to end.
    timeout_s: float
    version: int | None = None


@dataclass(frozen=True)
class Answer:
    """A job that succeeded, and its vectors: float32, little-endian, row by row."""

    job: Job
    result: EmbeddingResult
    vectors: memoryview


class EmbeddingJobs:
    """Used by one event loop."""

    def __init__(
        self, *, submission: Submission, tickets: Tickets, jobs: JobStore, objects: ObjectStore, waiters: Waiters
    ) -> None:
        self._submission = submission
        self._tickets = tickets
        self._jobs = jobs
        self._objects = objects
        self._waiters = waiters

    async def run(self, wanted: Wanted) -> Answer:
        """Whoever is cancelled while he waits here cancels the job, unless a key says that he may ask for it again.

        Raises FleetError: what refuses the job, and what it failed with; RunStopped `expired` when time is over; Busy
        when the process is about to end.
        """
        job_id = new_id()
        ends_at = asyncio.get_running_loop().time() + wanted.timeout_s
        submitting = asyncio.ensure_future(run_in_threadpool(self._submit, wanted, job_id))
        give_up = partial(self._given_up, keyed=wanted.caller.idempotency_key is not None)
        try:
            # Listen before the job exists: it may end before the submit has returned.
            with self._waiters.listen(job_id) as bell:
                submitted = await asyncio.shield(submitting)
                job = submitted.job
                if not submitted.replayed:
                    job = await bell.end_of(job, wanted.timeout_s)
            if submitted.replayed:
                with self._waiters.listen(job.id) as bell:
                    job = await bell.end_of(job, wanted.timeout_s)
        except asyncio.CancelledError:
            submitting.add_done_callback(give_up)
            raise
        except NotFound as error:
            if error.code != "job-not-found" or wanted.caller.idempotency_key is not None:
                raise
            # PostgreSQL has crashed before it was on the disk: see decision 0017.
            raise DependencyError(f"job {job_id} is gone from the record: send the request again") from error
        if job.state is JobState.SUCCEEDED:
            return await self._answer(job)
        if job.state.ended:
            raise error_of(job)
        give_up(submitting)
        if bell.closing:
            raise Busy("this process is about to end: send the request again")
        if asyncio.get_running_loop().time() < ends_at:
            raise DependencyError(f"the record could not tell how job {job.id} goes on: send the request again")
        raise not_in_time(f"job {job.id} has not ended within {wanted.timeout_s:g} s")

    def _submit(self, wanted: Wanted, job_id: UUID) -> Submitted:
        caller = wanted.caller
        with as_input(wanted.texts, self._tickets, caller.tenant) as (params, inputs):
            request = _request(wanted, params, inputs)
            # Only a key makes repeats of requests; without one there is nothing to compare.
            if caller.idempotency_key is not None:
                return self._submission.submit(request, caller, job_id)
            return self._submission.submit(request, caller, job_id, "", awaited=True)

    async def _answer(self, job: Job) -> Answer:
        result = EmbeddingResult.model_validate(job.result)
        if result.artifact is None:
            return Answer(job, result, result.vectors())
        return await run_in_threadpool(self._fetched, job, result)

    def _fetched(self, job: Job, result: EmbeddingResult) -> Answer:
        artifact = next((artifact for artifact in job.artifacts if artifact.name == result.artifact), None)
        if artifact is None:
            raise ModelError(f"the result of job {job.id} has no {result.artifact!r}", code="result-unreadable")
        with tempfile.TemporaryDirectory(prefix="fleet-answer-") as folder:
            path = Path(folder) / "vectors"
            self._objects.fetch(artifact.object, path)
            return Answer(job, result, result.vectors(path.read_bytes()))

    def _given_up(self, submitting: asyncio.Future[Submitted], *, keyed: bool) -> None:
        """Nobody waits any more for the job that was submitted, if it was; one with a key is there for a repeat."""
        if submitting.cancelled() or submitting.exception() is not None or keyed:
            return
        # Whoever leaves does not wait for it.
        asyncio.get_running_loop().run_in_executor(None, self._cancel, submitting.result().job)

    def _cancel(self, job: Job) -> None:
        try:
            self._jobs.cancel(job.id, job.tenant)
        except Conflict:
            # It has just ended.
            return
        except FleetError as error:
            log.warning("a job that nobody waits for goes on", job_id=str(job.id), error=error.code)


def _request(wanted: Wanted, params: dict[str, Any], inputs: list[InputRequest]) -> JobRequest:
    """Raises ValidationFailed `too-many-tokens`."""
    try:
        return JobRequest(
            model=wanted.model,
            version=wanted.version,
            task=TASK_NAME,
            params=wanted.params.model_dump(mode="json", exclude_defaults=True) | params,
            inputs=inputs,
            priority=wanted.priority,
            # No time at all is no deadline: MAX_WAIT_S may be 0.
            deadline_s=max(wanted.timeout_s, 0.001),
            # Callers wait in the request: what nobody can run is told at once.
            when_no_worker="refuse",
        )
    except ValidationError:
        # All else was checked before; and the error itself quotes the texts, which are not for a log.
        raise fault(
            "the texts of a job are longer than the record can keep: send fewer or shorter ones",
            code="too-many-tokens",
            where="#/input",
        ) from None
