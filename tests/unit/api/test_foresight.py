"""Forecasts against a fleet that is played out: the range must hold what really happens, about four times of five."""

import math
from dataclasses import dataclass
from heapq import heapify, heapreplace
from random import Random

import pytest

from api.foresight import Range, Running, Slot, Stage, Takes, outlook, rest
from fleet.contracts import Pool
from fleet.cost import Basis, Estimate

_ROUNDS = 120


def estimate(mean_log: float, sigma: float, basis: Basis = Basis.MEASURED) -> Estimate:
    """As the cost model makes it from a log-normal belief."""
    low, high = math.exp(mean_log - 1.2816 * sigma), math.exp(mean_log + 1.2816 * sigma)
    return Estimate(math.exp(mean_log + sigma**2 / 2), low, high, basis)


def within(seen: Range, seconds: float) -> bool:
    return seen.earliest_s <= seconds <= seen.latest_s


@dataclass
class Truth:
    """A small fleet as it is: every slot is at some point of a job. Since they were measured, all have become a little
    slower, or faster.
    """

    slots: list[Slot]
    free_at: list[float]
    mean_logs: list[float]

    @classmethod
    def of(cls, pools: dict[Pool, tuple[int, float]], sigma: float, dice: Random) -> "Truth":
        truth, drift = cls([], [], []), dice.gauss(0, 0.1)
        for pool, (count, mean_log) in pools.items():
            believed = Takes.of(estimate(mean_log, sigma))
            for place in range(count):
                # Whoever looks finds the longer jobs more often: the lengths that are met are weighted by themselves.
                whole_s = math.exp(mean_log + drift + sigma**2 + sigma * dice.gauss(0, 1))
                since_s = whole_s * dice.random()
                truth.slots.append(Slot(f"{pool}-{place}", pool, Running(believed, since_s)))
                truth.free_at.append(whole_s - since_s)
                truth.mean_logs.append(mean_log + drift)
        return truth

    def start_s(self, jobs: int, sigma: float, dice: Random) -> float:
        """When the job after so many others starts: whoever is free first takes the next one."""
        order = [(at, place) for place, at in enumerate(self.free_at)]
        heapify(order)
        for _ in range(jobs):
            at, place = order[0]
            takes_s = math.exp(self.mean_logs[place] + sigma * dice.gauss(0, 1))
            heapreplace(order, (at + takes_s, place))
        return order[0][0]


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("jobs", [0, 3, 30, 300])
@pytest.mark.parametrize(
    "pools",
    [{Pool.CPU: (1, 0.0)}, {Pool.CPU: (8, 0.0)}, {Pool.GPU: (2, 0.0), Pool.CPU: (4, 2.0)}],
    ids=["one-slot", "eight-slots", "gpu-with-help"],
)
def test_four_of_five_starts_and_ends_are_within_the_range(
    pools: dict[Pool, tuple[int, float]], jobs: int, sigma: float
) -> None:
    starts = ends = 0
    for number in range(_ROUNDS):
        dice = Random(number)
        truth = Truth.of(pools, sigma, dice)
        takes = {pool: Takes.of(estimate(mean_log, sigma)) for pool, (_, mean_log) in pools.items()}
        seen = outlook([Stage(jobs, {pool: [kind] for pool, kind in takes.items()}, truth.slots)], takes, number)
        start_s = truth.start_s(jobs, sigma, dice)
        starts += within(seen.start, start_s)
        assert seen.start.earliest_s <= seen.start.expected_s <= seen.start.latest_s
        assert seen.start.expected_s < seen.end.expected_s
        if len(pools) == 1:
            ends += within(seen.end, start_s + math.exp(truth.mean_logs[0] + sigma * dice.gauss(0, 1)))
    assert 0.7 * _ROUNDS <= starts <= 0.93 * _ROUNDS
    assert len(pools) > 1 or 0.7 * _ROUNDS <= ends <= 0.93 * _ROUNDS


def test_a_known_fleet_has_a_narrow_range() -> None:
    takes = Takes.of(estimate(0.0, 0.05))
    slots = [Slot(str(place), Pool.CPU) for place in range(4)]
    seen = outlook([Stage(400, {Pool.CPU: [takes]}, slots)], {Pool.CPU: takes}, 1).start
    assert 90 < seen.expected_s < 110
    assert seen.latest_s < 1.6 * seen.earliest_s


def test_what_only_the_card_says_has_a_wide_range() -> None:
    known, said = (Takes.of(estimate(1.0, 1.0, basis)) for basis in (Basis.MEASURED, Basis.CARD))
    slots = [Slot("w", Pool.CPU)]
    narrow, wide = (
        outlook([Stage(100, {Pool.CPU: [takes]}, slots)], {Pool.CPU: takes}, 1).start for takes in (known, said)
    )
    assert wide.latest_s / wide.earliest_s > 3 * narrow.latest_s / narrow.earliest_s


def test_helpers_bring_the_start_nearer() -> None:
    takes = {pool: [Takes.of(estimate(mean_log, 0.1))] for pool, mean_log in ((Pool.GPU, 0.0), (Pool.CPU, 1.0))}
    own = {pool: mix[0] for pool, mix in takes.items()}
    alone = [Slot("g", Pool.GPU)]
    helped = [*alone, *(Slot(f"c{place}", Pool.CPU) for place in range(3))]
    without, with_help = (outlook([Stage(60, takes, slots)], own, 1).start.expected_s for slots in (alone, helped))
    assert with_help < 0.6 * without


def test_work_of_others_that_goes_first_is_waited_for() -> None:
    takes = Takes.of(estimate(0.0, 0.1))
    slot = Slot("w", Pool.CPU)
    urgent, own = (Stage(jobs, {Pool.CPU: [takes]}, [slot]) for jobs in (10, 5))
    seen = outlook([urgent, own], {Pool.CPU: takes}, 1).start
    assert 12 < seen.expected_s < 18


def test_a_fleet_of_thousands_of_slots_is_played_at_a_smaller_size() -> None:
    takes = Takes.of(estimate(0.0, 0.3))
    slots = [Slot(str(place), Pool.CPU, Running(takes, 0.5)) for place in range(3_000)]
    seen = outlook([Stage(30_000, {Pool.CPU: [takes]}, slots)], {Pool.CPU: takes}, 1).start
    assert 8 < seen.expected_s < 13


def test_the_same_facts_give_the_same_outlook() -> None:
    takes = Takes.of(estimate(0.0, 1.0))
    stages = [Stage(7, {Pool.CPU: [takes]}, [Slot("w", Pool.CPU, Running(takes, 1.0))])]
    assert outlook(stages, {Pool.CPU: takes}, 5) == outlook(stages, {Pool.CPU: takes}, 5)


def test_what_is_left_of_a_run_shrinks_with_its_progress() -> None:
    takes = Takes.of(estimate(math.log(100), 0.3))
    left = [rest(Running(takes, 50.0, progress), 1).expected_s for progress in (0.5, 0.8, 0.95, 1.0)]
    assert left == sorted(left, reverse=True)
    assert 20 < left[0] < 90
    assert left[-1] == 0


def test_a_run_that_outlived_its_estimate_is_not_about_to_end_for_ever() -> None:
    takes = Takes.of(estimate(0.0, 0.1))
    seen = rest(Running(takes, 100.0), 1)
    assert 1 < seen.expected_s < 100
    assert seen.earliest_s > 0


def test_a_run_of_no_length_yet_has_an_end_however_short_its_jobs_are() -> None:
    takes = Takes.of(estimate(math.log(1e-4), 0.05))
    assert all(rest(Running(takes, 0.0), seed).earliest_s >= 0 for seed in range(200))
