"""Fair shares: by weight, without idle workers, whoever came first."""

from hypothesis import given
from hypothesis import strategies as st

from fleet.contracts import Lane
from fleet.shares import LEAST, MOST, Windows, interleaved, window_of

QUEUE = "gpu.bulk.normal"
NAMES = st.sampled_from("abcd")
WEIGHTS = st.dictionaries(NAMES, st.floats(0.1, 10))


def test_each_tenant_has_at_least_one_message() -> None:
    assert window_of(8, 0.001) == 1
    assert window_of(8, 2.0) == 16


def test_a_tenant_of_twice_the_weight_goes_twice_as_often() -> None:
    items = [("a", n) for n in range(6)] + [("b", n) for n in range(6)]
    turns = [tenant for tenant, _ in _with_tenants(items, {"b": 2.0})]
    assert turns[:9].count("b") == 6


@given(st.lists(st.tuples(NAMES, st.integers())), WEIGHTS)
def test_interleaving_keeps_every_item_and_each_tenants_order(
    items: list[tuple[str, int]], weights: dict[str, float]
) -> None:
    ordered = _with_tenants(items, weights)
    for tenant in "abcd":
        assert [item for item in ordered if item[0] == tenant] == [item for item in items if item[0] == tenant]
    assert len(ordered) == len(items)


def _with_tenants(items: list[tuple[str, int]], weights: dict[str, float]) -> list[tuple[str, int]]:
    return interleaved([(tenant, (tenant, item)) for tenant, item in items], weights)


def test_a_window_begins_at_the_least_of_its_lane() -> None:
    assert Windows().of(QUEUE) == LEAST[Lane.BULK]
    assert Windows().of("cpu.interactive.low") == LEAST[Lane.INTERACTIVE]


def test_a_window_that_workers_empty_grows_until_it_lasts() -> None:
    windows = Windows()
    for _ in range(10):
        # Workers could take 500 a round.
        there = windows.of(QUEUE)
        windows.drained(QUEUE, min(500, there), emptied=there <= 500)
    assert windows.of(QUEUE) > 500
    assert QUEUE in windows.grown


def test_a_window_that_is_not_needed_shrinks_to_the_least() -> None:
    windows = Windows()
    windows.drained(QUEUE, 500, emptied=True)
    for _ in range(100):
        windows.drained(QUEUE, 0, emptied=False)
    assert windows.of(QUEUE) == LEAST[Lane.BULK]
    assert not windows.grown


@given(st.lists(st.tuples(st.integers(0, 100_000), st.booleans()), max_size=30))
def test_a_window_stays_within_its_limits(rounds: list[tuple[int, bool]]) -> None:
    windows = Windows()
    for taken, emptied in rounds:
        windows.drained(QUEUE, taken, emptied=emptied)
        assert LEAST[Lane.BULK] <= windows.of(QUEUE) <= MOST


def test_a_new_leader_goes_on_with_the_windows_of_the_last_one() -> None:
    windows = Windows()
    windows.adopt(QUEUE, 300)
    windows.adopt("cpu.bulk.low", 1)
    assert windows.grown == {QUEUE: 300}
