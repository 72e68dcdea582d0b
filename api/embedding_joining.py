"""Small requests that come at the same time share a job: what each would pay by itself, they pay once.

Nobody waits while the fleet is idle. What came while jobs of the same kind run is the next one:

    request -> fewer than `_AT_ONCE` jobs run, or a full one waits -> a job of all that wait and fit
            -> else wait

A request whose texts are wrong is refused alone. Where a joined job fails for another reason its requests run once
more, each by itself: whose fault it was is its own trouble then.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from api.embedding_errors import error_of_refusal, not_in_time
from api.embedding_jobs import Answer, Wanted
from api.embedding_sizes import Sizes
from fleet.embeddings import EmbeddingResult
from fleet.errors import FleetError, ModelError

#: Jobs of one kind under way before requests wait for each other: while one runs, the next is under way to the worker.
_AT_ONCE = 2
_MOST_TOKENS = 4096
#: Of failed jobs: what need not happen to each of their requests.
_MAYBE_ALONE = frozenset({"worker-lost", "too-many-texts", "too-many-tokens"})


@dataclass(eq=False)
class _Member:
    wanted: Wanted
    tokens: int
    answer: asyncio.Future[Answer]

    @property
    def gone(self) -> bool:
        return self.answer.done()


@dataclass(eq=False)
class _Line:
    """Requests that may share a job."""

    waiting: deque[_Member] = field(default_factory=deque)
    running: dict[asyncio.Task[None], list[_Member]] = field(default_factory=dict)


class Joining:
    """Used by one event loop."""

    def __init__(self, run: Callable[[Wanted], Awaitable[Answer]], sizes: Sizes) -> None:
        self._run = run
        self._sizes = sizes
        self._lines: dict[object, _Line] = {}

    async def run(self, wanted: Wanted, tokens: int) -> Answer:
        """The request's own vectors. Whoever is cancelled while he waits leaves his job, and the last one cancels it.

        Raises as `EmbeddingJobs.run`.
        """
        key = (wanted.model, wanted.params, wanted.caller.tenant, wanted.priority, type(wanted.texts[0]))
        line = self._lines.setdefault(key, _Line())
        member = _Member(wanted, tokens, asyncio.get_running_loop().create_future())
        line.waiting.append(member)
        self._start(key, line)
        try:
            async with asyncio.timeout(wanted.timeout_s):
                return await member.answer
        except TimeoutError:
            raise not_in_time(f"the request has not been answered within {wanted.timeout_s:g} s") from None
        finally:
            if member.answer.cancelled():
                self._left(key, line, member)

    def _start(self, key: object, line: _Line) -> None:
        while line.waiting and (len(line.running) < _AT_ONCE or self._full(line)):
            members = self._fitting(line)
            for _ in members:
                line.waiting.popleft()
            task = asyncio.create_task(self._together(members))
            line.running[task] = members
            task.add_done_callback(lambda done: self._ended(key, line, done))

    def _full(self, line: _Line) -> bool:
        return len(self._fitting(line)) < len(line.waiting)

    def _fitting(self, line: _Line) -> list[_Member]:
        """Those who would be in the next job: the first one, and who fits in behind it."""
        most = self._sizes.most_joined(line.waiting[0].wanted.model)
        members: list[_Member] = []
        texts = tokens = 0
        for member in line.waiting:
            texts += len(member.wanted.texts)
            tokens += member.tokens
            if members and (texts > most or tokens > _MOST_TOKENS):
                break
            members.append(member)
        return members

    def _ended(self, key: object, line: _Line, task: asyncio.Task[None]) -> None:
        members = line.running.pop(task)
        for member in members:
            # None is left without a word, whatever happened to the task.
            if not member.gone:
                error = None if task.cancelled() else task.exception()
                member.answer.set_exception(error or FleetError("a joined job was given up"))
        self._start(key, line)
        self._forget(key, line)

    def _left(self, key: object, line: _Line, member: _Member) -> None:
        """Nothing runs, or is going to, that nobody waits for."""
        if member in line.waiting:
            line.waiting.remove(member)
        for task, members in line.running.items():
            if all(each.gone for each in members):
                task.cancel()
        self._forget(key, line)

    def _forget(self, key: object, line: _Line) -> None:
        if not line.waiting and not line.running and self._lines.get(key) is line:
            del self._lines[key]

    async def _together(self, members: list[_Member]) -> None:
        if len(members) == 1:
            return await self._alone(members[0])
        try:
            answer = await self._run(_joined([member.wanted for member in members]))
            own = _parted(answer, [len(member.wanted.texts) for member in members])
        except FleetError as error:
            self._sizes.learn_refused(members[0].wanted.model, error)
            if isinstance(error, ModelError) or error.code in _MAYBE_ALONE:
                return await self._each_alone(members)
            own = [copy.copy(error) for _ in members]
        for member, outcome in zip(members, own, strict=True):
            _tell(member, outcome)
        return None

    async def _alone(self, member: _Member) -> None:
        try:
            outcome: Answer | Exception = await self._run(member.wanted)
        except Exception as error:  # noqa: BLE001 (it is the caller's, and not that of who runs beside it)
            outcome = error
        _tell(member, outcome)

    async def _each_alone(self, members: list[_Member]) -> None:
        """Who leaves takes his job with him, though the others go on."""

        def begun(member: _Member) -> asyncio.Task[None]:
            run = asyncio.create_task(self._alone(member))
            member.answer.add_done_callback(lambda _: run.cancel())
            return run

        await asyncio.gather(*(begun(member) for member in members if not member.gone), return_exceptions=True)


def _tell(member: _Member, outcome: Answer | Exception) -> None:
    if member.gone:
        return
    if isinstance(outcome, Exception):
        member.answer.set_exception(outcome)
    else:
        member.answer.set_result(outcome)


def _joined(wanted: list[Wanted]) -> Wanted:
    texts: list[Any] = [text for each in wanted for text in each.texts]
    params = wanted[0].params.model_copy(update={"joined": [len(each.texts) for each in wanted]})
    return replace(wanted[0], texts=texts, params=params, timeout_s=max(each.timeout_s for each in wanted))


def _parted(answer: Answer, counts: list[int]) -> list[Answer | FleetError]:
    """Each request's own. Raises ModelError `result-unreadable` when the result is not that of so many texts."""
    result, at = answer.result, 0
    refused = {refusal.request: refusal.error for refusal in result.refused or ()}
    expected = sum(count for number, count in enumerate(counts) if number not in refused)
    if result.count != expected or result.tokens is None or len(result.tokens) != expected:
        raise ModelError(f"{result.count} vectors are not those of {expected} texts", code="result-unreadable")
    own: list[Answer | FleetError] = []
    for number, count in enumerate(counts):
        if number in refused:
            own.append(error_of_refusal(refused[number]))
            continue
        tokens = result.tokens[at : at + count]
        part: EmbeddingResult = result.model_copy(
            update={"count": count, "tokens": tokens, "total_tokens": sum(tokens), "refused": None}
        )
        own.append(Answer(answer.job, part, answer.vectors[at * result.row_bytes : (at + count) * result.row_bytes]))
        at += count
    return own
