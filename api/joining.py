"""Requests that come at the same time share a job: what each would pay by itself, they pay once.

Nobody waits while the fleet is idle. What came while jobs of the same kind run is the next one:

    request -> fewer than `at_once` jobs run, or a full one waits -> a job of all that wait and fit
            -> else wait

What is wrong with one request is told to it alone. Where a shared job fails for another reason its requests run once
more, each by itself: whose fault it was is its own trouble then.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from fleet.errors import FleetError

Wanted = TypeVar("Wanted")
Answer = TypeVar("Answer")
Wanted_contra = TypeVar("Wanted_contra", contravariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)


class Sharing(Protocol[Wanted_contra, Answer_co]):
    """Which requests may share a job, and how one is run."""

    def key(self, wanted: Wanted_contra) -> Hashable:
        """Equal for those that may."""

    def at_once(self, wanted: Wanted_contra) -> int:
        """Jobs of its kind under way before requests wait for each other."""

    def fitting(self, waiting: Iterable[Wanted_contra]) -> int:
        """How many of those that wait, from the first one on, fit into one job: at least 1."""

    async def alone(self, wanted: Wanted_contra) -> Answer_co:
        """Runs one by itself."""

    async def together(self, wanted: Sequence[Wanted_contra]) -> Sequence[Answer_co | Exception] | None:
        """Runs several as one job -> what each is told; None: each is to run by itself."""


@dataclass(eq=False)
class _Member(Generic[Wanted, Answer]):
    wanted: Wanted
    answer: asyncio.Future[Answer]

    @property
    def gone(self) -> bool:
        return self.answer.done()

    def tell(self, outcome: Answer | Exception) -> None:
        if self.gone:
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


@dataclass(eq=False)
class _Line(Generic[Wanted, Answer]):
    """Requests that may share a job."""

    key: Hashable
    waiting: deque[_Member[Wanted, Answer]] = field(default_factory=deque)
    running: dict[asyncio.Task[None], list[_Member[Wanted, Answer]]] = field(default_factory=dict)


class Joining(Generic[Wanted, Answer]):
    """Used by one event loop."""

    def __init__(
        self,
        sharing: Sharing[Wanted, Answer],
        *,
        longest_wait_s: float | None = None,
        joined: Callable[[int], None] = lambda count: None,
    ) -> None:
        """longest_wait_s: in which a request has begun, however long the jobs before it take; None: there is none.

        joined: told of how many requests each job is made.
        """
        self._sharing = sharing
        self._joined = joined
        self._longest_wait_s = longest_wait_s
        self._lines: dict[Hashable, _Line[Wanted, Answer]] = {}

    async def run(self, wanted: Wanted) -> Answer:
        """The request's own answer. Whoever is cancelled while he waits leaves his job, and the last one cancels it.

        Raises as `alone` and `together` do.
        """
        key = self._sharing.key(wanted)
        line = self._lines.setdefault(key, _Line(key))
        loop = asyncio.get_running_loop()
        member: _Member[Wanted, Answer] = _Member(wanted, loop.create_future())
        line.waiting.append(member)
        self._start(line)
        overdue = None
        if self._longest_wait_s is not None and member in line.waiting:
            overdue = loop.call_later(self._longest_wait_s, self._start, line, member)
        try:
            return await member.answer
        finally:
            if overdue is not None:
                overdue.cancel()
            if member.answer.cancelled():
                self._left(line, member)

    def _start(self, line: _Line[Wanted, Answer], overdue: _Member[Wanted, Answer] | None = None) -> None:
        while line.waiting:
            fitting = self._sharing.fitting(member.wanted for member in line.waiting)
            room = len(line.running) < self._sharing.at_once(line.waiting[0].wanted)
            if not room and fitting == len(line.waiting) and overdue not in line.waiting:
                return
            members = [line.waiting.popleft() for _ in range(fitting)]
            task = asyncio.create_task(self._run(members))
            line.running[task] = members
            task.add_done_callback(lambda done: self._ended(line, done))

    def _ended(self, line: _Line[Wanted, Answer], task: asyncio.Task[None]) -> None:
        members = line.running.pop(task)
        error = None if task.cancelled() else task.exception()
        for member in members:
            # None is left without a word, whatever happened to the task.
            if not member.gone:
                member.answer.set_exception(error or FleetError("a shared job was given up"))
        self._start(line)
        self._forget(line)

    def _left(self, line: _Line[Wanted, Answer], member: _Member[Wanted, Answer]) -> None:
        """Nothing runs, or is going to, that nobody waits for."""
        if member in line.waiting:
            line.waiting.remove(member)
        for task, members in line.running.items():
            if all(each.gone for each in members):
                task.cancel()
        self._forget(line)

    def _forget(self, line: _Line[Wanted, Answer]) -> None:
        if not line.waiting and not line.running and self._lines.get(line.key) is line:
            del self._lines[line.key]

    async def _run(self, members: list[_Member[Wanted, Answer]]) -> None:
        self._joined(len(members))
        if len(members) == 1:
            return await self._alone(members[0])
        told = await self._sharing.together([member.wanted for member in members])
        if told is None:
            return await self._each_alone(members)
        for member, outcome in zip(members, told, strict=True):
            member.tell(outcome)
        return None

    async def _alone(self, member: _Member[Wanted, Answer]) -> None:
        try:
            outcome: Answer | Exception = await self._sharing.alone(member.wanted)
        except Exception as error:  # noqa: BLE001 (it is the caller's, and not that of who runs beside it)
            outcome = error
        member.tell(outcome)

    async def _each_alone(self, members: list[_Member[Wanted, Answer]]) -> None:
        """Who leaves takes his job with him, though the others go on."""

        def begun(member: _Member[Wanted, Answer]) -> asyncio.Task[None]:
            run = asyncio.create_task(self._alone(member))
            member.answer.add_done_callback(lambda _: run.cancel())
            return run

        await asyncio.gather(*(begun(member) for member in members if not member.gone), return_exceptions=True)
