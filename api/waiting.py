"""Waiting for the end of jobs without holding a thread: the one place where the front door is asynchronous.

Redis tells which job has ended; since its word may get lost, one statement a second also asks the record about all jobs
that anybody waits for. Both only ring a bell: the truth is the row that the waiter then reads.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.concurrency import run_in_threadpool

from fleet.broker import ENDED_CHANNEL
from fleet.contracts import Job
from fleet.errors import DependencyError
from fleet.logs import get_logger

_LOOK_EVERY_S = 1.0
_RECONNECT_AFTER_S = 0.5
log = get_logger(__name__)


class Bell:
    """What one waiter listens to."""

    def __init__(self, waiters: "Waiters") -> None:
        self._waiters = waiters
        self.rung = asyncio.Event()

    async def end_of(self, job: Job, read: Callable[[], Job], wait_s: float) -> Job:
        """The job once it has ended, or as it was last seen: after `wait_s` seconds, or when the record fails."""
        ends_at = asyncio.get_running_loop().time() + wait_s
        over = wait_s == 0
        while not (job.state.ended or over or self._waiters.closing):
            try:
                async with asyncio.timeout_at(ends_at):
                    await self.rung.wait()
            except TimeoutError:
                over = True
            self.rung.clear()
            try:
                job = await run_in_threadpool(read)
            except DependencyError as error:
                log.warning("a waiter leaves early", job_id=str(job.id), error=error.code)
                over = True
        return job


class Waiters:
    """`start` and `close` with the process; `listen` before the moment that must not be missed."""

    def __init__(self, redis_url: str, ended_among: Callable[[Sequence[UUID]], set[UUID]]) -> None:
        self._redis_url = redis_url
        self._ended_among = ended_among
        self._bells: dict[UUID, set[Bell]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.closing = False

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._subscribe()), asyncio.create_task(self._look())]

    async def close(self) -> None:
        self.release()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def release(self) -> None:
        """Lets everybody go who waits now or later: the process is about to end."""
        self.closing = True
        for job_id in list(self._bells):
            self._ring(job_id)

    @contextmanager
    def listen(self, job_id: UUID) -> Iterator[Bell]:
        bell = Bell(self)
        self._bells.setdefault(job_id, set()).add(bell)
        try:
            yield bell
        finally:
            self._bells[job_id].discard(bell)
            if not self._bells[job_id]:
                del self._bells[job_id]

    def _ring(self, job_id: UUID) -> None:
        for bell in self._bells.get(job_id, ()):
            bell.rung.set()

    async def _subscribe(self) -> None:
        """Listens for ever; a lost connection is made anew, and its silence only costs up to a second."""
        silent = False
        while True:
            client = redis.asyncio.Redis.from_url(
                self._redis_url,
                socket_connect_timeout=2.0,
                socket_keepalive=True,
                health_check_interval=5,
                retry=Retry(NoBackoff(), 0),
            )
            try:
                async with client, client.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(ENDED_CHANNEL)
                    if silent:
                        log.info("listening for ended jobs again")
                    silent = False
                    while True:
                        message = await channel.get_message(timeout=5.0)
                        if message is not None:
                            self._told(message["data"])
            except Exception as error:  # noqa: BLE001 (waiting must go on, whatever Redis answers)
                if not silent:
                    log.warning("not listening for ended jobs: the record is asked instead", error=type(error).__name__)
                silent = True
                await asyncio.sleep(_RECONNECT_AFTER_S)

    def _told(self, data: bytes) -> None:
        try:
            self._ring(UUID(data.split()[0].decode()))
        except (ValueError, IndexError):
            log.warning("a word about an ended job could not be read")

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if not self._bells:
                continue
            try:
                ended = await run_in_threadpool(self._ended_among, list(self._bells))
            except DependencyError as error:
                log.warning("cannot ask for ended jobs", error=error.code)
                continue
            except Exception:
                log.exception("asking for ended jobs failed")
                continue
            for job_id in ended:
                self._ring(job_id)
