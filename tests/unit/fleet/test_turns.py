"""Turns and windows: who may publish how much, without any server."""

from collections import Counter

import pytest

from fleet.contracts import Lane
from fleet.shares import LEAST, MOST, Turns, Windows

QUEUE = "cpu.bulk.normal"


def given(turns: Turns, tenants: list[str], places: list[int], weights: dict[str, float]) -> Counter[str]:
    total: Counter[str] = Counter()
    for free in places:
        total.update(turns.give(QUEUE, tenants, free, weights))
    return total


@pytest.mark.parametrize("places", [[90], [1] * 90, [7, 13, 70]])
def test_places_are_shared_by_weight_however_they_come(places: list[int]) -> None:
    shared = given(Turns(), ["a", "b", "c"], places, {"a": 2.0, "c": 0.5})
    assert sum(shared.values()) == 90
    assert shared["a"] == pytest.approx(90 * 2 / 3.5, abs=2)
    assert shared["b"] == pytest.approx(90 * 1 / 3.5, abs=2)
    assert shared["c"] == pytest.approx(90 * 0.5 / 3.5, abs=2)


def test_one_place_at_a_time_goes_round() -> None:
    turns = Turns()
    order = [next(iter(turns.give(QUEUE, ["a", "b"], 1, {}))) for _ in range(6)]
    assert order == ["a", "b"] * 3


def test_who_comes_later_has_no_claim_to_what_others_had() -> None:
    turns = Turns()
    given(turns, ["a"], [1000], {})
    assert given(turns, ["a", "b"], [10], {}) == {"a": 5, "b": 5}


def test_who_was_away_has_no_claim_to_what_he_did_not_use() -> None:
    turns = Turns()
    given(turns, ["a", "b"], [10], {})
    given(turns, ["a"], [1000], {})
    assert given(turns, ["a", "b"], [10], {}) == {"a": 5, "b": 5}


def test_nobody_gets_what_is_not_free() -> None:
    assert Turns().give(QUEUE, ["a"], 0, {}) == {}
    assert Turns().give(QUEUE, ["a"], -5, {}) == {}


def test_a_window_follows_what_is_taken_within_its_bounds() -> None:
    windows = Windows()
    assert windows.of(QUEUE) == LEAST[Lane.BULK]
    windows.drained(QUEUE, 100, emptied=False)
    assert windows.of(QUEUE) == 300
    windows.drained(QUEUE, 100, emptied=True)
    assert windows.of(QUEUE) == 600
    windows.drained(QUEUE, 1e6, emptied=True)
    assert windows.of(QUEUE) == MOST
    for _ in range(100):
        windows.drained(QUEUE, 0, emptied=False)
    assert windows.of(QUEUE) == LEAST[Lane.BULK]
    assert windows.grown == {}
