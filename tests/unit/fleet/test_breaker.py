"""The breaker, by a clock of its own."""

from fleet.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def broken() -> tuple[Breaker, Clock]:
    clock = Clock()
    breaker = Breaker(2.0, clock)
    breaker.failed()
    return breaker, clock


def test_a_server_that_answers_may_be_asked_by_all() -> None:
    breaker = Breaker(2.0, Clock())
    assert not breaker.resting
    assert all(breaker.may_try() for _ in range(3))


def test_after_a_failure_nobody_tries_until_the_rest_is_over() -> None:
    breaker, clock = broken()
    clock.now += 1.9
    assert breaker.resting
    assert not breaker.may_try()


def test_after_the_rest_one_tries_and_the_others_go_on_resting() -> None:
    breaker, clock = broken()
    clock.now += 2.0
    assert not breaker.resting
    assert [breaker.may_try() for _ in range(3)] == [True, False, False]
    assert breaker.resting


def test_who_tried_and_was_never_heard_of_again_is_followed_by_the_next() -> None:
    breaker, clock = broken()
    clock.now += 2.0
    assert breaker.may_try()
    clock.now += 2.0
    assert breaker.may_try()


def test_an_answer_ends_the_rest_for_all() -> None:
    breaker, _ = broken()
    breaker.answered()
    assert not breaker.resting
    assert all(breaker.may_try() for _ in range(3))
