"""Which requests for embeddings share a job, and what each of them is told of it."""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from api.embedding_jobs import Answer, Wanted
from api.embedding_joining import Joining
from api.embedding_sizes import Sizes
from api.submission import Caller
from fleet.contracts import JobError, PriorityName
from fleet.embeddings import EmbeddingResult, JobParams, Refusal, fault
from fleet.errors import FleetError, ModelError, NoCapableWorker, RunStopped, TooManyWaiting, ValidationFailed
from tests.support.ended_job import ended

Act = Callable[[Wanted], Answer]


class Jobs:
    """Stands for `EmbeddingJobs`: keeps what runs until it is told to go on. A text's vector is its number."""

    def __init__(self, act: Act | None = None) -> None:
        self.begun: list[list[Any]] = []
        self.joined: list[list[int] | None] = []
        self.cancelled = 0
        self.go = asyncio.Event()
        self._act = act or answered

    async def run(self, wanted: Wanted) -> Answer:
        self.begun.append(list(wanted.texts))
        self.joined.append(wanted.params.joined)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self._act(wanted)


def answered(wanted: Wanted) -> Answer:
    counts = wanted.params.joined or [len(wanted.texts)]
    refused, numbers, at = [], [], 0
    for request, count in enumerate(counts):
        own = wanted.texts[at : at + count]
        at += count
        if "bad" in own:
            error = JobError(code="text-too-long", message="too long", facts={"item": own.index("bad")})
            refused.append(Refusal(request=request, error=error))
        else:
            numbers += [int(text) for text in own]
    result = EmbeddingResult(
        count=len(numbers),
        dimensions=1,
        normalized=True,
        total_tokens=sum(numbers),
        truncated=0,
        tokens=numbers,
        refused=refused or None,
    )
    return Answer(ended(0.1), result, memoryview(struct.pack(f"<{len(numbers)}f", *numbers)))


def wanted(*texts: Any, timeout_s: float = 30.0, tenant: str = "default", **params: Any) -> Wanted:
    return Wanted("model", list(texts), JobParams(**params), Caller(tenant), PriorityName.NORMAL, timeout_s)


def scene(check: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(check())


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def asking(joining: Joining, *requests: Wanted) -> list[asyncio.Task[Answer]]:
    return [asyncio.create_task(joining.run(each, 10)) for each in requests]


def numbers(answer: Answer) -> list[float]:
    return list(struct.unpack(f"<{answer.result.count}f", answer.vectors))


def test_nobody_waits_while_little_runs_and_what_came_meanwhile_is_the_next_job() -> None:
    async def check() -> None:
        jobs = Jobs()
        asked = asking(Joining(jobs.run, Sizes()), *(wanted(str(number)) for number in range(6)))
        await settled()
        assert jobs.begun == [["0"], ["1"]]
        jobs.go.set()
        answers = await asyncio.gather(*asked)
        assert jobs.begun[2:] == [["2", "3", "4", "5"]]
        assert jobs.joined == [None, None, [1, 1, 1, 1]]
        assert [numbers(answer) for answer in answers] == [[0], [1], [2], [3], [4], [5]]

    scene(check)


def test_each_gets_its_own_vectors_and_tokens() -> None:
    async def check() -> None:
        jobs = Jobs()
        asked = asking(
            Joining(jobs.run, Sizes()), wanted("1"), wanted("2"), wanted("3", "4"), wanted("5"), wanted("6", "7", "8")
        )
        await settled()
        jobs.go.set()
        answers = await asyncio.gather(*asked)
        assert [numbers(answer) for answer in answers[2:]] == [[3, 4], [5], [6, 7, 8]]
        assert [answer.result.tokens for answer in answers[2:]] == [[3, 4], [5], [6, 7, 8]]
        assert [answer.result.total_tokens for answer in answers[2:]] == [7, 5, 21]

    scene(check)


def test_a_full_job_does_not_wait_and_has_no_more_than_fits() -> None:
    async def check() -> None:
        jobs, sizes = Jobs(), Sizes()
        joining = Joining(jobs.run, sizes)
        most = sizes.most_joined("model")
        asked = asking(joining, *(wanted(str(number)) for number in range(2 + 2 * most + 3)))
        await settled()
        assert [len(texts) for texts in jobs.begun] == [1, 1, most, most]
        jobs.go.set()
        await asyncio.gather(*asked)
        assert len(jobs.begun[4]) == 3

    scene(check)


def test_only_requests_of_one_kind_share_a_job() -> None:
    async def check() -> None:
        jobs = Jobs()
        joining = Joining(jobs.run, Sizes())
        kinds = [
            wanted,
            lambda text: wanted(text, dimensions=4),
            lambda text: wanted(text, tenant="other"),
        ]
        asked = asking(joining, *(kind(str(number)) for number in range(4) for kind in kinds))
        await settled()
        jobs.go.set()
        await asyncio.gather(*asked)
        assert sorted(map(len, jobs.begun)) == [1] * 6 + [2] * 3

    scene(check)


def test_what_is_wrong_with_one_is_told_to_it_alone() -> None:
    async def check() -> None:
        jobs = Jobs()
        asked = asking(
            Joining(jobs.run, Sizes()), wanted("1"), wanted("2"), wanted("3"), wanted("4", "bad"), wanted("5")
        )
        await settled()
        jobs.go.set()
        first, second, third, bad, last = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(bad, ValidationFailed)
        assert (bad.code, bad.facts["item"]) == ("text-too-long", 1)
        others = [numbers(answer) for answer in (first, second, third, last) if isinstance(answer, Answer)]
        assert others == [[1], [2], [3], [5]]

    scene(check)


@pytest.mark.parametrize(
    "error", [ModelError("not finite", code="result-not-finite"), NoCapableWorker("lost", code="worker-lost")]
)
def test_after_another_failure_each_runs_once_more_by_itself(error: FleetError) -> None:
    def act(wanted: Wanted) -> Answer:
        if "9" in wanted.texts:
            raise error
        return answered(wanted)

    async def check() -> None:
        jobs = Jobs(act)
        asked = asking(Joining(jobs.run, Sizes()), *(wanted(text) for text in ("1", "2", "3", "9", "4")))
        await settled()
        jobs.go.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert jobs.begun[2:] == [["3", "9", "4"], ["3"], ["9"], ["4"]]
        assert answers[3] is error
        assert [numbers(answer) for answer in answers if isinstance(answer, Answer)] == [[1], [2], [3], [4]]

    scene(check)


def test_what_refuses_the_job_refuses_all() -> None:
    def act(wanted: Wanted) -> Answer:
        raise TooManyWaiting("full", retry_after_s=3)

    async def check() -> None:
        jobs = Jobs(act)
        asked = asking(Joining(jobs.run, Sizes()), *(wanted(str(number)) for number in range(5)))
        await settled()
        jobs.go.set()
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert len(jobs.begun) == 3
        assert [getattr(error, "retry_after_s", None) for error in errors] == [3] * 5

    scene(check)


def test_a_job_goes_on_for_those_who_stay_and_ends_with_the_last_who_leaves() -> None:
    async def check() -> None:
        jobs = Jobs()
        joining = Joining(jobs.run, Sizes())
        asked = asking(joining, wanted("1"), wanted("2"))
        await settled()
        asked += asking(joining, wanted("3"), wanted("4"), wanted("5"))
        await settled()
        for task in asked[:2]:
            task.cancel()
        await settled()
        assert (jobs.cancelled, jobs.begun[2:]) == (2, [["3", "4", "5"]])
        asked[2].cancel()
        asked[3].cancel()
        await settled()
        assert jobs.cancelled == 2
        asked[4].cancel()
        await settled()
        assert jobs.cancelled == 3

    scene(check)


def test_who_left_before_its_job_began_is_not_in_it() -> None:
    async def check() -> None:
        jobs = Jobs()
        asked = asking(Joining(jobs.run, Sizes()), *(wanted(str(number)) for number in range(5)))
        await settled()
        asked[3].cancel()
        await settled()
        jobs.go.set()
        await asyncio.gather(*asked, return_exceptions=True)
        assert jobs.begun[2] == ["2", "4"]

    scene(check)


def test_a_request_waits_no_longer_than_it_wants_to() -> None:
    async def check() -> None:
        jobs = Jobs()
        asked = asking(Joining(jobs.run, Sizes()), wanted("1"), wanted("2"), wanted("3", timeout_s=0.01))
        with pytest.raises(RunStopped) as error:
            await asked[2]
        assert error.value.code == "expired"
        jobs.go.set()
        await asyncio.gather(*asked[:2])
        assert jobs.begun == [["1"], ["2"]]

    scene(check)


def test_a_result_of_other_texts_is_nobodys() -> None:
    def act(wanted: Wanted) -> Answer:
        return answered(wanted if len(wanted.texts) == 1 else Wanted(**{**vars(wanted), "texts": wanted.texts[1:]}))

    async def check() -> None:
        jobs = Jobs(act)
        asked = asking(Joining(jobs.run, Sizes()), *(wanted(str(number)) for number in range(5)))
        await settled()
        jobs.go.set()
        answers = await asyncio.gather(*asked)
        # Each ran once more, and has its own.
        assert [numbers(answer) for answer in answers] == [[0], [1], [2], [3], [4]]

    scene(check)


def test_an_unforeseen_error_reaches_everybody() -> None:
    def act(wanted: Wanted) -> Answer:
        raise LookupError("nobody thought of it")

    async def check() -> None:
        jobs = Jobs(act)
        asked: list[Awaitable[Answer]] = list(asking(Joining(jobs.run, Sizes()), *map(wanted, "12345")))
        await settled()
        jobs.go.set()
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in errors] == [LookupError] * 5

    scene(check)


def test_a_model_that_takes_few_texts_refuses_one_joined_job_and_no_more() -> None:
    def act(wanted: Wanted) -> Answer:
        if len(wanted.texts) > 2:
            raise fault("too many", code="too-many-texts", where="#/input", count=len(wanted.texts), most=2)
        return answered(wanted)

    async def check() -> None:
        jobs = Jobs(act)
        joining = Joining(jobs.run, Sizes())
        jobs.go.set()
        await asyncio.gather(*asking(joining, *(wanted(text) for text in "12345")))
        assert jobs.begun == [["1"], ["2"], ["3", "4", "5"], ["3"], ["4"], ["5"]]
        answers = await asyncio.gather(*asking(joining, *(wanted(text) for text in "123456")))
        assert jobs.begun[6:] == [["1"], ["2"], ["3", "4"], ["5", "6"]]
        assert [numbers(answer) for answer in answers] == [[1], [2], [3], [4], [5], [6]]

    scene(check)


def test_who_leaves_while_each_runs_by_itself_ends_his_own_run_alone() -> None:
    def act(wanted: Wanted) -> Answer:
        if wanted.params.joined:
            raise ModelError("not finite", code="result-not-finite")
        return answered(wanted)

    async def check() -> None:
        jobs = Jobs(act)
        asked = asking(Joining(jobs.run, Sizes()), *(wanted(text) for text in "12345"))
        await settled()
        for _ in ("the first two end", "the joined one fails"):
            jobs.go.set()
            jobs.go.clear()
            await settled()
        assert jobs.begun[2:] == [["3", "4", "5"], ["3"], ["4"], ["5"]]
        asked[3].cancel()
        await settled()
        assert jobs.cancelled == 1
        jobs.go.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [numbers(answer) for answer in answers if isinstance(answer, Answer)] == [[1], [2], [3], [5]]

    scene(check)
