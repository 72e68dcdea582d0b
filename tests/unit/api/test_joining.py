"""Which requests share a job, whatever they ask for, and what each of them is told of it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import pytest

from api.joining import Joining

MOST = 3


class Numbers:
    """Requests are numbers, those of the same tens share jobs, and the answer to each is its double."""

    def __init__(self, at_once: int = 1) -> None:
        self.begun: list[list[int]] = []
        self.cancelled: list[int] = []
        self.go, self.second = asyncio.Event(), asyncio.Event()
        self.places = at_once
        self.apart = False

    def key(self, wanted: int) -> int:
        return wanted // 10

    def at_once(self, wanted: int) -> int:
        return self.places

    def fitting(self, waiting: Iterable[int]) -> int:
        return min(MOST, len(list(waiting)))

    async def alone(self, wanted: int) -> int:
        await self._ran([wanted])
        return 2 * wanted

    async def together(self, wanted: Sequence[int]) -> Sequence[int | Exception] | None:
        await self._ran(list(wanted))
        return None if self.apart else [LookupError(each) if each % 10 == 9 else 2 * each for each in wanted]

    async def _ran(self, wanted: list[int]) -> None:
        self.begun.append(wanted)
        if len(self.begun) == 2:
            self.second.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += wanted
            raise


def scene(check: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(check())


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def asking(joining: Joining[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(joining.run(number)) for number in numbers]


@pytest.mark.parametrize(("at_once", "begun"), [(1, [[1], [2, 3]]), (2, [[1], [2], [3]]), (9, [[1], [2], [3]])])
def test_what_comes_while_as_many_run_as_may_is_the_next_job(at_once: int, begun: list[list[int]]) -> None:
    async def check() -> None:
        numbers = Numbers(at_once)
        asked = asking(Joining(numbers), 1, 2, 3)
        await settled()
        assert numbers.begun == begun[:at_once]
        numbers.go.set()
        assert await asyncio.gather(*asked) == [2, 4, 6]
        assert numbers.begun == begun

    scene(check)


def test_it_is_told_of_how_many_requests_each_job_is_made() -> None:
    async def check() -> None:
        numbers, counts = Numbers(), list[int]()
        asked = asking(Joining(numbers, joined=counts.append), 1, 2, 3, 4, 5)
        await settled()
        numbers.go.set()
        await asyncio.gather(*asked)
        assert counts == [len(job) for job in numbers.begun] == [1, 3, 1]

    scene(check)


def test_how_many_may_run_is_asked_anew_each_time() -> None:
    async def check() -> None:
        numbers = Numbers(1)
        joining = Joining(numbers)
        asked = asking(joining, 1, 2)
        await settled()
        assert numbers.begun == [[1]]
        numbers.places = 2
        asked += asking(joining, 3)
        await settled()
        assert numbers.begun == [[1], [2, 3]]
        numbers.go.set()
        assert await asyncio.gather(*asked) == [2, 4, 6]

    scene(check)


def test_a_full_job_does_not_wait_and_others_wait_for_their_own_kind_alone() -> None:
    async def check() -> None:
        numbers = Numbers()
        asked = asking(Joining(numbers), 1, 2, 3, 4, 5, 21, 22)
        await settled()
        assert numbers.begun == [[1], [2, 3, 4], [21]]
        numbers.go.set()
        assert await asyncio.gather(*asked) == [2, 4, 6, 8, 10, 42, 44]
        assert numbers.begun[3:] == [[5], [22]]

    scene(check)


def test_what_is_wrong_with_one_is_told_to_it_alone() -> None:
    async def check() -> None:
        numbers = Numbers()
        asked = asking(Joining(numbers), 1, 8, 9)
        numbers.go.set()
        first, second, bad = await asyncio.gather(*asked, return_exceptions=True)
        assert numbers.begun == [[1], [8, 9]]
        assert (first, second, type(bad)) == (2, 16, LookupError)

    scene(check)


def test_those_that_are_to_run_apart_do() -> None:
    async def check() -> None:
        numbers = Numbers()
        numbers.apart = True
        asked = asking(Joining(numbers), 1, 2, 3)
        numbers.go.set()
        assert await asyncio.gather(*asked) == [2, 4, 6]
        assert numbers.begun == [[1], [2, 3], [2], [3]]

    scene(check)


def test_nobody_waits_longer_to_begin_than_is_allowed() -> None:
    async def check() -> None:
        numbers = Numbers()
        joining = Joining(numbers, longest_wait_s=0.01)
        asked = asking(joining, 1, 2, 3)
        await numbers.second.wait()
        assert numbers.begun == [[1], [2, 3]]
        numbers.go.set()
        assert await asyncio.gather(*asked) == [2, 4, 6]
        assert len(numbers.begun) == 2

    scene(check)


def test_who_leaves_is_in_no_job_and_the_last_one_takes_his_with_him() -> None:
    async def check() -> None:
        numbers = Numbers()
        asked = asking(Joining(numbers), 1, 2, 3, 4, 5)
        await settled()
        assert numbers.begun == [[1], [2, 3, 4]]
        for task in (asked[1], asked[2], asked[4]):
            task.cancel()
        await settled()
        assert numbers.cancelled == []
        asked[3].cancel()
        await settled()
        assert numbers.cancelled == [2, 3, 4]
        numbers.go.set()
        assert await asked[0] == 2
        assert len(numbers.begun) == 2

    scene(check)
