"""Eviction as bookkeeping: the limit is never exceeded, and each rule lets go of what it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.eviction import BestOf, Frequency, GreedyDual, Policy, Rate, Recency
from worker.engine.residency import DoesNotFit, Place, Residency

RULES: list[type[Policy]] = [Recency, Frequency, GreedyDual, Rate, BestOf]


def loads(residency: Residency, requests: list[str], weights: dict[str, int], cost_s: float = 1.0) -> int:
    """How many of the requests had to load."""
    count = 0
    for key in requests:
        place = next((place for place in residency.places if place.key == key), None)
        if place is None:
            place = Place(key, weights[key], cost_s)
            going = residency.victims(place, residency.places)
            assert going is not None
            for victim in going:
                residency.remove(victim)
            residency.add(place)
            count += 1
        residency.used(place)
        assert residency.held <= residency.limit
    return count


@given(
    rule=st.sampled_from(RULES),
    weights=st.lists(st.integers(1, 50), min_size=8, max_size=8),
    requests=st.lists(st.integers(0, 7), max_size=120),
    limit=st.integers(50, 200),
)
def test_the_limit_is_never_exceeded(rule: type[Policy], weights: list[int], requests: list[int], limit: int) -> None:
    sizes = {str(n): weight for n, weight in enumerate(weights)}
    loads(Residency(limit, rule()), [str(n) for n in requests], sizes)


def test_recency_lets_the_oldest_go() -> None:
    residency = Residency(2, by_count=True)
    loads(residency, list("abac"), dict.fromkeys("abc", 1))
    assert sorted(place.key for place in residency.places) == ["a", "c"]


def test_of_equal_use_the_large_and_quickly_loaded_one_goes() -> None:
    for rule in (GreedyDual, Rate, BestOf):
        residency = Residency(100, rule())
        loads(residency, ["large", "small", "large", "small", "new"], {"large": 60, "small": 30, "new": 20})
        assert sorted(place.key for place in residency.places) == ["new", "small"], rule


def test_a_scan_does_not_empty_what_is_used_all_the_time() -> None:
    weights = {str(n): 10 for n in range(40)}
    steady = ["0", "1", "2"] * 40
    scan = [str(n) for n in range(3, 40)]
    requests = [key for other in scan for key in (other, *steady[:3])] + steady
    assert loads(Residency(50, Rate()), requests, weights) <= len(scan) + 3


def test_the_best_of_several_follows_the_one_that_would_have_cost_least() -> None:
    weights = {str(n): 5 + n for n in range(12)}
    # Round and round: the worst case of recency, which would load every time.
    circle = [str(n % 12) for n in range(600)]
    assert loads(Residency(60, Recency()), circle, weights) == 600
    assert loads(Residency(60, BestOf()), circle, weights) < 400
    # Bursts on a few models each, the worst case of what counts uses.
    bursts = [str((n // 100) * 3 % 12 + n % 3) for n in range(2400)]
    assert loads(Residency(60, BestOf()), bursts, weights) <= 1.3 * loads(Residency(60, Recency()), bursts, weights)


def test_pinned_ones_stay_and_what_cannot_fit_beside_them_is_told() -> None:
    residency = Residency(100)
    pinned = Place("pinned", 70, 1.0, pinned=True)
    residency.add(pinned)
    loads(residency, list("ab"), {"a": 20, "b": 30})
    assert [place.key for place in residency.places] == ["pinned", "b"]
    with pytest.raises(DoesNotFit) as caught:
        residency.victims(Place("c", 31, 1.0), residency.places)
    assert (caught.value.wanted, caught.value.limit, caught.value.staying) == (31, 100, 70)


def test_what_is_not_idle_is_not_let_go() -> None:
    residency = Residency(100)
    loads(residency, list("ab"), {"a": 50, "b": 50})
    first, second = residency.places
    assert residency.victims(Place("c", 60, 1.0), [first]) is None
    assert residency.victims(Place("c", 50, 1.0), [second]) == [second]
