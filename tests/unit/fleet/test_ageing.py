"""Ageing: every class below the top ends its patience, and the classes' times add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.ageing import Budgets, guests
from fleet.contracts import Priority

BUDGETS = Budgets.of([5.0, 15.0, 60.0])


def test_the_setting_lists_high_normal_low() -> None:
    assert (BUDGETS.high_s, BUDGETS.normal_s, BUDGETS.low_s) == (5.0, 15.0, 60.0)


@pytest.mark.parametrize(
    ("now_in", "leaves_after"),
    [
        (Priority.LOW, {Priority.LOW: 60.0}),
        (Priority.NORMAL, {Priority.NORMAL: 15.0, Priority.LOW: 75.0}),
        (Priority.HIGH, {Priority.HIGH: 5.0, Priority.NORMAL: 20.0, Priority.LOW: 80.0}),
        (Priority.URGENT, {}),
    ],
)
def test_a_job_spends_its_time_class_by_class(now_in: Priority, leaves_after: dict[Priority, float]) -> None:
    assert BUDGETS.before_leaving(now_in) == leaves_after


@given(st.lists(st.floats(0.1, 1e5), min_size=3, max_size=3), st.sampled_from([*Priority][1:]))
def test_a_job_that_keeps_waiting_reaches_the_top(seconds: list[float], asked: Priority) -> None:
    budgets, waited, now_in = Budgets.of(seconds), 0.0, asked
    while now_in is not Priority.URGENT:
        leaves_after = budgets.before_leaving(now_in)[asked]
        assert leaves_after > waited
        waited, now_in = leaves_after, Priority(now_in - 1)
    assert waited <= sum(seconds) * (1 + 1e-9)


def test_the_aged_are_no_more_than_can_be_served_at_once() -> None:
    assert guests(30) == 30
    assert guests(0) == 1
