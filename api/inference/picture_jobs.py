"""One job of pictures from its request to its end: submit, and wait."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from api.inference.pointers import respelled
from api.requests import JobRequest
from api.submission import Caller, Submission
from api.waiting import Waiters
from fleet.errors import FleetError
from fleet.ids import new_id
from fleet.job_values import Submitted


@dataclass(frozen=True)
class Wanted:
    """A job that is to be."""

    request: JobRequest
    caller: Caller
    #: Where its pictures stand in the request that it comes of, and the param that the prompt became.
    pointers: Sequence[str]
    question: str | None = None
    #: What makes another request a repeat of that one.
    body_print: str = ""


class PictureJobs:
    """Used by one event loop."""

    def __init__(self, submission: Submission, waiters: Waiters) -> None:
        self._submission = submission
        self._waiters = waiters

    async def run(self, wanted: Callable[[], Wanted], ends_at: float | None) -> Submitted:
        """The job when it has ended, or as it is at `ends_at` of the loop's clock; None: once it is stored.

        `wanted` is called in a thread. Whoever is cancelled while he waits here leaves the job to itself.

        Raises FleetError whose pointers lead into the request as it was written.
        """
        clock = asyncio.get_running_loop().time
        job_id = new_id()
        # Listen before the job exists: it may end before the submit has returned.
        with self._waiters.listen(job_id) as bell:
            submitted = await run_in_threadpool(lambda: self._submitted(wanted(), job_id))
            if submitted.replayed:
                return submitted if ends_at is None else await self.end_of(submitted, ends_at)
            if ends_at is not None:
                ended = await bell.end_of(submitted.job, max(0.0, ends_at - clock()))
                return Submitted(ended, replayed=False)
        return submitted

    async def end_of(self, submitted: Submitted, ends_at: float) -> Submitted:
        """Of a job that was there before."""
        left_s = max(0.0, ends_at - asyncio.get_running_loop().time())
        with self._waiters.listen(submitted.job.id) as bell:
            return Submitted(await bell.end_of(submitted.job, left_s), submitted.replayed)

    def _submitted(self, wanted: Wanted, job_id: UUID) -> Submitted:
        try:
            return self._submission.submit(wanted.request, wanted.caller, job_id, wanted.body_print)
        except FleetError as error:
            raise respelled(error, wanted.pointers, question=wanted.question) from error
