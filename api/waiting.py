"""Waiting for jobs without holding a thread: the one place where the front door is asynchronous.

Redis tells which job has ended, mostly with the row as its worker has committed it. Since its word may get lost, and
since it says nothing of what happens on the way, one statement every half second also asks the record how far all jobs
are that anybody waits for or follows: whose bell it rings reads the row.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.concurrency import run_in_threadpool

from api.reading import Reader
from fleet.broker import ENDED_CHANNEL
from fleet.contracts import Job
from fleet.errors import DependencyError
from fleet.job_news import as_told
from fleet.job_values import Standing
from fleet.logs import get_logger

_LOOK_EVERY_S = 0.5
_RECONNECT_AFTER_S = 0.5
log = get_logger(__name__)


class Bell:
    """What one waiter, or one follower, listens to."""

    def __init__(self, waiters: "Waiters") -> None:
        self._waiters = waiters
        self._rung = asyncio.Event()
        self._news = b""
        #: The revision that a follower has shown: it rings for every other one. None: for the end of the job alone.
        self.shown: int | None = None

    @property
    def closing(self) -> bool:
        """Whether the process is about to end: nobody should wait any more."""
        return self._waiters.closing

    def ring(self, news: bytes = b"") -> None:
        self._news = news or self._news
        self._rung.set()

    def concerns(self, standing: Standing | None) -> bool:
        """Whether this is news to its owner. None: the job is gone."""
        if standing is None:
            return True
        return standing.ended if self.shown is None else standing.revision != self.shown

    async def heard(self, within_s: float) -> bool:
        """Waits for the bell; False when it did not ring within that time."""
        try:
            async with asyncio.timeout(within_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True

    async def end_of(self, job: Job, wait_s: float) -> Job:
        """The job once it has ended, or as it was last seen: after `wait_s` seconds, or when the record fails.

        Raises NotFound when it is deleted meanwhile.
        """
        clock = asyncio.get_running_loop().time
        ends_at = clock() + wait_s
        over = wait_s == 0
        while not (job.state.ended or over or self.closing):
            over = not await self.heard(max(0.0, ends_at - clock()))
            if (told := as_told(job, self._news)) is not None:
                return told
            self._news = b""
            try:
                job = await self._waiters.reader.job(job.id)
            except DependencyError as error:
                log.warning("a waiter leaves early", job_id=str(job.id), error=error.code)
                over = True
        return job


class Waiters:
    """`start` and `close` with the process; `listen` before the moment that must not be missed."""

    def __init__(
        self, redis_url: str, standings: Callable[[Sequence[UUID]], Mapping[UUID, Standing]], reader: Reader
    ) -> None:
        self.reader = reader
        self._redis_url = redis_url
        self._standings = standings
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
        """Lets everybody go who waits now or later: the process is about to end. Call it in the event loop."""
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

    def _ring(self, job_id: UUID, news: bytes = b"") -> None:
        for bell in self._bells.get(job_id, ()):
            bell.ring(news)

    async def _subscribe(self) -> None:
        """Listens for ever; a lost connection is made anew, and its silence only costs half a second."""
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
            job_id, _, told = data.partition(b" ")
            self._ring(UUID(job_id.decode()), told.partition(b" ")[2])
        except ValueError:
            log.warning("a word about an ended job could not be read")

    async def _look(self) -> None:
        blind = False
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            asked = list(self._bells)
            if not asked:
                continue
            try:
                standings = await run_in_threadpool(self._standings, asked)
            except DependencyError as error:
                if not blind:
                    log.warning("cannot ask how far jobs are: those who wait for them hear no news", error=error.code)
                blind = True
                continue
            except Exception:
                log.exception("asking how far jobs are failed")
                continue
            if blind:
                log.info("asking how far jobs are again")
            blind = False
            for job_id in asked:
                for bell in self._bells.get(job_id, ()):
                    if bell.concerns(standings.get(job_id)):
                        bell.ring()
