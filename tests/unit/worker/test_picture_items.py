"""Jobs of many pictures: what they hold together, and that none is refused for what its neighbours take."""

import math
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fleet.errors import InputTooLarge
from worker.contract import Model, Picture
from worker.memory.room import ArrayRoom
from worker.pictures.items import Admit, Item, PictureParams, Pictures, Stages, each
from worker.progress import JobProgress
from worker.stop import StopToken

MIB = 1024**2


class Narrow(JobProgress):
    """A run that may hold so much. Remembers the most that it was granted, and that something was refused."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(StopToken())
        self.most_bytes = most_bytes
        self.granted = 0
        self.refused = threading.Event()

    @property
    def memory_bytes(self) -> int:
        return self.most_bytes

    def admit(self, what: str, peak_bytes: int, *, lean_bytes: int | None = None, scratch_bytes: int = 0) -> ArrayRoom:
        if peak_bytes > self.most_bytes:
            self.refused.set()
            raise InputTooLarge(f"{what} would take {peak_bytes} bytes", code="not-enough-memory")
        self.granted = max(self.granted, peak_bytes)
        return ArrayRoom()


def of_many(read: Callable[[Admit, Callable[[], None]], Picture], count: int) -> Pictures:
    return Pictures([Item(str(number), read) for number in range(count)], many=True)


def looked_at(progress: JobProgress, pictures: Pictures, answer: dict[str, Any], run_bytes: int = 0) -> list[Any]:
    def one(picture: Picture, stages: Stages) -> dict[str, Any]:
        return dict(answer)

    model = cast(Model, SimpleNamespace(at_once=3))
    return each(pictures, PictureParams(), model, progress, one, run_bytes=run_bytes).answers


def test_a_picture_is_not_refused_for_what_its_neighbours_take() -> None:
    progress = Narrow(100 * MIB)

    def read(admit: Admit, check: Callable[[], None]) -> Picture:
        admit("reading a picture", 60 * MIB)
        # Another lane has asked beside this one, where there is another.
        progress.refused.wait(1)
        return Picture(np.zeros((8, 8, 3), np.uint8))

    answers = looked_at(progress, of_many(read, 4), {})
    assert progress.refused.is_set()
    assert [answer.error for answer in answers] == [None] * 4


def test_a_picture_that_never_fits_fails_alone() -> None:
    def read(admit: Admit, check: Callable[[], None]) -> Picture:
        admit("reading a picture", 60 * MIB)
        return Picture(np.zeros((8, 8, 3), np.uint8))

    answers = looked_at(Narrow(50 * MIB), of_many(read, 3), {})
    assert [answer.error and answer.error.code for answer in answers] == ["not-enough-memory"] * 3


def small(admit: Admit, check: Callable[[], None]) -> Picture:
    return Picture(np.zeros((8, 8, 3), np.uint8))


def test_so_many_lanes_work_as_their_runs_have_room_for() -> None:
    progress = Narrow(100 * MIB)
    assert len(looked_at(progress, of_many(small, 4), {}, run_bytes=40 * MIB)) == 4
    assert progress.granted == 40 * MIB


def test_long_answers_are_asked_for_before_there_are_too_many() -> None:
    """Ten thousand pictures with a thousand classes each would be gigabytes."""
    answer = {"predictions": [{"class_name": "a" * 100, "class_id": 1, "confidence": 0.5}] * 1000}
    with pytest.raises(InputTooLarge) as refused:
        looked_at(Narrow(30 * MIB), of_many(small, 100), answer)
    assert refused.value.code == "not-enough-memory"
    assert "the answers to 100 pictures" in refused.value.message


def test_an_answer_that_is_no_json_fails_alone() -> None:
    (answer, _) = looked_at(Narrow(30 * MIB), of_many(small, 2), {"score": math.nan})
    assert answer.error is not None
    assert answer.error.code == "result-not-finite"
