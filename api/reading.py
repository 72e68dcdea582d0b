"""Jobs read for all who wait for them: what is asked for during one statement is read together by the next."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from fleet.contracts import Job
from fleet.errors import NotFound

_AT_ONCE = 32


class Reader:
    """Used by one event loop. A single asker waits for nobody; of many, each costs a part of a statement."""

    def __init__(self, read: Callable[[Sequence[UUID]], Mapping[UUID, Job]]) -> None:
        """`read` leaves out what is deleted."""
        self._read = read
        self._asked: list[tuple[UUID, asyncio.Future[Job]]] = []
        self._reading: asyncio.Task[None] | None = None

    async def job(self, job_id: UUID) -> Job:
        """As the record holds it now. Raises NotFound `job-not-found` when it is deleted, DependencyError."""
        answer: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self._asked.append((job_id, answer))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_on())
        return await answer

    async def _read_on(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked[:_AT_ONCE], self._asked[_AT_ONCE:]
                await self._answer(asked)
        finally:
            self._reading = None

    async def _answer(self, asked: Sequence[tuple[UUID, asyncio.Future[Job]]]) -> None:
        found: Mapping[UUID, Job] = {}
        fault: Exception | None = None
        try:
            found = await run_in_threadpool(self._read, [job_id for job_id, _ in asked])
        except Exception as error:  # noqa: BLE001 (whoever asked raises it)
            fault = error
        # Without those who were cancelled meanwhile.
        for job_id, answer in [one for one in asked if not one[1].done()]:
            if job_id in found:
                answer.set_result(found[job_id])
            else:
                gone = NotFound(f"there is no job {job_id}", code="job-not-found", job_id=str(job_id))
                answer.set_exception(fault or gone)
