"""Many at once, or one alone: the order in which threads get in."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.support.waiting import eventually
from worker.permits import Permits


def never() -> bool:
    return False


class Visitor(threading.Thread):
    """Comes in as soon as it may, and stays until it is told to go."""

    def __init__(self, enter: Callable[[Callable[[], bool]], AbstractContextManager[bool]]) -> None:
        super().__init__()
        self._enter = enter
        self._leave = threading.Event()
        self.gives_up = False
        self.inside = False
        self.was_let_in: bool | None = None
        self.start()

    def run(self) -> None:
        with self._enter(lambda: self.gives_up) as granted:
            self.was_let_in = self.inside = granted
            if granted:
                self._leave.wait(20)
            self.inside = False

    def leave(self) -> None:
        self._leave.set()
        self.join(20)


def test_many_may_be_inside_together() -> None:
    permits = Permits()
    visitors = [Visitor(permits.together) for _ in range(5)]
    eventually(lambda: all(visitor.inside for visitor in visitors))
    assert permits.inside == 5
    for visitor in visitors:
        visitor.leave()
    assert permits.inside == 0


def test_the_one_alone_waits_for_all_others_and_goes_before_newcomers() -> None:
    permits = Permits()
    first = Visitor(permits.together)
    eventually(lambda: first.inside)
    alone = Visitor(permits.alone)
    eventually(lambda: permits.inside == 2)
    newcomer = Visitor(permits.together)
    eventually(lambda: permits.inside == 3)
    assert (alone.inside, newcomer.inside) == (False, False)
    first.leave()
    eventually(lambda: alone.inside)
    assert not newcomer.inside
    alone.leave()
    eventually(lambda: newcomer.inside)
    newcomer.leave()


def test_those_who_are_to_be_alone_go_one_after_the_other() -> None:
    permits = Permits()
    visitors = [Visitor(permits.alone) for _ in range(3)]
    seen = 0
    while waiting := [visitor for visitor in visitors if visitor.was_let_in is None or visitor.inside]:
        eventually(lambda waiting=waiting: any(visitor.inside for visitor in waiting))  # type: ignore[misc]
        (inside,) = (visitor for visitor in visitors if visitor.inside)
        inside.leave()
        seen += 1
    assert seen == 3


def test_whoever_gives_up_waiting_lets_the_others_go_on() -> None:
    permits = Permits()
    first = Visitor(permits.together)
    eventually(lambda: first.inside)
    alone = Visitor(permits.alone)
    eventually(lambda: permits.inside == 2)
    newcomer = Visitor(permits.together)
    alone.gives_up = True
    alone.join(20)
    assert alone.was_let_in is False
    first.leave()
    eventually(lambda: newcomer.inside)
    newcomer.leave()


def test_a_failure_inside_gives_the_permit_back() -> None:
    permits = Permits()
    for enter in (permits.alone, permits.together, permits.alone):
        try:
            with enter(never) as granted:
                assert granted
                raise RuntimeError
        except RuntimeError:
            pass
    assert permits.inside == 0
