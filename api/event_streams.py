"""Server-sent events of a job: its snapshots, one per revision, on a connection that may break at any moment.

A stream has no memory but the revision that it has shown, so that another one can go on where it broke off. A snapshot
supersedes all before it: a reader that is slow, or was away, gets the newest one and none of those in between.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from uuid import UUID

from fastapi import Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.measures import Measures
from api.views import job_view
from api.waiting import Waiters
from fleet.contracts import Job, ShownState
from fleet.errors import Busy, DependencyError, NotFound
from fleet.jobs import JobStore
from fleet.logs import get_logger

MEDIA_TYPE = "text/event-stream"
#: Followers take turns in reading the record, so that many of them never hold up a request.
_READ_AT_A_TIME = 4
#: Milliseconds until a reader whose stream broke off comes back: not all of them at the same moment.
_RETRY_MS = (1000, 3000)
_HEARTBEAT = b": still there\n\n"
log = get_logger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A job at one revision, as it goes out."""

    revision: int
    ended: bool
    event: bytes


class EventStreams:
    """Those that this process holds open, and how many these may be."""

    def __init__(
        self, waiters: Waiters, jobs: JobStore, measures: Measures, *, at_most: int, heartbeat_s: float
    ) -> None:
        self._waiters = waiters
        self._jobs = jobs
        self._measures = measures
        self._at_most = at_most
        self._heartbeat_s = heartbeat_s
        self._turns = asyncio.Semaphore(_READ_AT_A_TIME)
        self._open = 0

    async def follow(self, job_id: UUID, tenant: str, base_url: str, seen: int | None) -> Response:
        """The answer to somebody who has seen this revision of the job, or none; 204 if it was the last one.

        Raises NotFound, DependencyError, and Busy `too-many-streams`.
        """

        def read() -> Snapshot:
            return _snapshot(self._jobs.get(job_id, tenant), base_url)

        now = await run_in_threadpool(read)
        if now.ended and seen == now.revision:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        if self._open >= self._at_most:
            raise Busy(
                f"{self._open} event streams are open, which is the most that this process holds: "
                "come back later, or ask for the job with `Prefer: wait`",
                code="too-many-streams",
                max_streams=self._at_most,
            )
        return _EventStream(self._events(job_id, now, seen, read), self._place())

    async def _events(
        self, job_id: UUID, now: Snapshot, seen: int | None, read: Callable[[], Snapshot]
    ) -> AsyncGenerator[bytes, None]:
        with self._waiters.listen(job_id) as bell:
            yield b"retry: %d\n\n" % random.randint(*_RETRY_MS)  # noqa: S311 (spreads load, hides nothing)
            # An id that the job has not had yet, or has left behind, must not hide how it is now.
            bell.shown = seen if seen == now.revision else None
            while True:
                if now.revision != bell.shown:
                    bell.shown = now.revision
                    yield now.event
                if now.ended:
                    return
                rung = bell.closing or await bell.heard(self._heartbeat_s)
                if bell.closing:
                    return
                if not rung:
                    yield _HEARTBEAT
                    continue
                try:
                    async with self._turns:
                        now = await run_in_threadpool(read)
                except NotFound:
                    yield _event("job.deleted", f'{{"id":"{job_id}"}}')
                    return
                except DependencyError as error:
                    # The bell rings again as long as the record is ahead of what was shown.
                    log.warning("a follower has to wait for the record", job_id=str(job_id), error=error.code)

    @contextmanager
    def _place(self) -> Iterator[None]:
        self._open += 1
        self._measures.event_streams(self._open)
        try:
            yield
        finally:
            self._open -= 1
            self._measures.event_streams(self._open)


class _EventStream(StreamingResponse):
    """Nothing on the way may keep the events to itself."""

    def __init__(self, events: AsyncGenerator[bytes, None], place: AbstractContextManager[None]) -> None:
        super().__init__(
            events, media_type=MEDIA_TYPE, headers={"cache-control": "no-cache", "x-accel-buffering": "no"}
        )
        self._events = events
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A reader may leave while an event is on its way to it: what the events hold is let go in any case.
        with self._place:
            async with aclosing(self._events):
                await super().__call__(scope, receive, send)


def _snapshot(job: Job, base_url: str) -> Snapshot:
    name = job.shown_state.value
    if job.shown_state is ShownState.RUNNING:
        name = "started" if job.stage is None and job.progress == 0 else "progress"
    event = _event(f"job.{name}", job_view(job, base_url).model_dump_json(), job.revision)
    return Snapshot(job.revision, job.state.ended, event)


def _event(name: str, data: str, number: int | None = None) -> bytes:
    """`data` is JSON, which has no line breaks."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {data}\n\n".encode()
