"""Runs that wait for a core: who is let in, in which order, and what a stop does to them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from fleet.contracts import Priority
from fleet.errors import RunStopped
from worker.engine.batch_queue import PASSED_OVER
from worker.engine.places import Places
from worker.stop import StopReason, StopToken

SOON_S = 10.0


class Runs:
    """Threads that take a place, say so, and stay until they are let go."""

    def __init__(self, count: int) -> None:
        self.places = Places(count)
        self.began: list[str] = []
        self.let_go = {name: threading.Event() for name in "abcdef"}
        self._threads = ThreadPoolExecutor(6)

    def begin(self, name: str, priority: Priority = Priority.NORMAL, stop: StopToken | None = None) -> Future[None]:
        """Returns once it is inside, or waits."""
        before = len(self.places._waiting), len(self.began)
        run = self._threads.submit(self._run, name, priority, stop or StopToken())
        until(lambda: (len(self.places._waiting), len(self.began)) != before)
        return run

    def _run(self, name: str, priority: Priority, stop: StopToken) -> None:
        with self.places.one(stop, priority):
            self.began.append(name)
            self.let_go[name].wait(SOON_S)

    def end(self, name: str, run: Future[None]) -> None:
        self.let_go[name].set()
        run.result(SOON_S)

    def close(self) -> None:
        for event in self.let_go.values():
            event.set()
        self._threads.shutdown()


@contextmanager
def runs(count: int) -> Iterator[Runs]:
    made = Runs(count)
    try:
        yield made
    finally:
        made.close()


def until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if true():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come about")


def test_no_more_run_than_there_are_places_and_the_urgent_one_is_next() -> None:
    with runs(2) as scene:
        first, second = scene.begin("a"), scene.begin("b")
        third, fourth, urgent = scene.begin("c"), scene.begin("d"), scene.begin("e", Priority.URGENT)
        assert scene.began == ["a", "b"]
        scene.end("b", second)
        until(lambda: scene.began == ["a", "b", "e"])
        scene.end("e", urgent)
        until(lambda: scene.began == ["a", "b", "e", "c"])
        scene.end("a", first)
        until(lambda: scene.began == ["a", "b", "e", "c", "d"])
        scene.end("c", third)
        scene.end("d", fourth)


def test_who_is_stopped_while_he_waits_leaves_at_once_and_takes_no_place() -> None:
    with runs(1) as scene:
        first = scene.begin("a")
        stop = StopToken()
        stopped, third = scene.begin("b", stop=stop), scene.begin("c")
        stop.set(StopReason.CANCELLED)
        with pytest.raises(RunStopped):
            stopped.result(SOON_S)
        scene.end("a", first)
        until(lambda: scene.began == ["a", "c"])
        scene.end("c", third)
        assert scene.places._free == 1


def test_nobody_is_passed_over_for_ever() -> None:
    with runs(1) as scene:
        first = scene.begin("a")
        low, normal = scene.begin("b", Priority.LOW), scene.begin("c")
        # So many were let in since.
        scene.places._let_in_so_far += PASSED_OVER
        urgent = scene.begin("d", Priority.URGENT)
        scene.end("a", first)
        until(lambda: scene.began == ["a", "b"])
        for name, run in (("b", low), ("c", normal), ("d", urgent)):
            scene.end(name, run)
        assert scene.began == ["a", "b", "c", "d"]


def test_a_run_that_fails_gives_its_place_back() -> None:
    places = Places(1)
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), places.one(StopToken(), Priority.NORMAL):
            raise ValueError("x")
