"""The routing simulator: it counts right, its bound is one, and ours is not beaten where it must not be.

All times are simulated, so they are the same on every machine.
"""

import sys
from functools import cache
from statistics import mean

import numpy as np
import pytest

from fleet.contracts import DevicePolicy, Lane, Pool, Priority
from tests.support.fleet_of_one import ROOT

sys.path.append(str(ROOT / "benchmarks"))
from routing_lab.bound import bound_s
from routing_lab.measures import Outcome
from routing_lab.policies import Depth, GpuOnly, Ours, Policy, Split
from routing_lab.runs import made, outcome
from routing_lab.scenarios import BULK, LESIONS, SMALL, SMALL_DAY, TENANTS, Death, Machines, Scenario, steady
from routing_lab.tables import CHANCE, RATIO, losses
from routing_lab.work import Mix, Model, drawn, together
from routing_lab.world import COST_S, World

SEED = 7
FIXED = Model("fixed", Lane.BULK, DevicePolicy.PREFER_GPU, 1.0, 10.0, sigma=0.0)
GPU, CPU = Machines(1, Pool.GPU, Lane.BULK), Machines(1, Pool.CPU, Lane.BULK)
BASELINES: tuple[Policy, ...] = (GpuOnly(), Depth(), Split(0.1))


def at_once(jobs: int, *machines: Machines, model: Model = FIXED) -> Scenario:
    return Scenario("test", machines, drawn(np.random.default_rng(SEED), np.zeros(jobs), Mix([(model, 1.0)])))


def busy_hours(seed: int) -> Scenario:
    """Two hours of a small fleet's afternoon, with a burst of low jobs and a GPU that is lost for twenty minutes."""
    chance = np.random.default_rng(seed)
    steady_jobs = drawn(chance, steady(chance, 0.28, 7_200.0), Mix(BULK, tenants=TENANTS))
    archive = drawn(chance, np.full(200, 1_200.0), Mix([(LESIONS, 1.0)], priorities=(0, 0, 0, 1)))
    lost = Death(Lane.BULK, 1, 3_000.0, 4_200.0)
    return Scenario("busy hours", SMALL_DAY, together(steady_jobs, archive), (lost,))


@cache
def outcomes(scenario: str, seed: int = SEED) -> tuple[Outcome, ...]:
    played = busy_hours(seed) if scenario == "busy hours" else made(scenario, "small", seed)
    bound = bound_s(played, COST_S)
    return tuple(outcome(played, "small", policy, bound, seed) for policy in (Ours(), *BASELINES))


def test_one_gpu_runs_its_jobs_one_after_the_other() -> None:
    measures = World(at_once(10, GPU), GpuOnly(), SEED, cost_s=0.5).run()
    assert measures.makespan_s == pytest.approx(10 * 1.5)
    assert measures.flexible == 10
    assert measures.on_cpu == 0


def test_the_bound_of_one_pool_is_its_work() -> None:
    assert bound_s(at_once(10, GPU), 0.0) == pytest.approx(10.0, rel=1e-3)
    assert bound_s(at_once(10, CPU), 0.0) == pytest.approx(100.0, rel=1e-3)


def test_the_bound_of_both_pools_shares_the_work() -> None:
    # Eleven tenths of a GPU: 110 jobs take it 100 s.
    assert bound_s(at_once(110, GPU, CPU), 0.0) == pytest.approx(100.0, rel=1e-3)


def test_the_bound_counts_the_time_in_which_gpus_are_dead() -> None:
    scenario = at_once(10, GPU)
    dead = Scenario("test", scenario.machines, scenario.trace, (Death(Lane.BULK, 1, 2.0, 7.0),))
    assert bound_s(dead, 0.0) == pytest.approx(15.0, rel=1e-3)


def test_what_the_cpus_must_do_is_in_the_bound() -> None:
    tables = Model("tables", Lane.BULK, DevicePolicy.CPU_ONLY, 1e9, 4.0, sigma=0.0)
    assert bound_s(at_once(10, GPU, CPU, model=tables), 0.0) == pytest.approx(40.0, rel=1e-3)


def test_a_job_whose_gpu_dies_runs_again_and_ends_once() -> None:
    trace = drawn(np.random.default_rng(SEED), np.zeros(1), Mix([(FIXED, 1.0)]))
    scenario = Scenario("test", (GPU,), trace, (Death(Lane.BULK, 1, 0.5, 60.0),))
    measures = World(scenario, GpuOnly(), SEED, cost_s=0.0).run()
    assert measures.lost_runs == 1
    assert measures.flexible == 1
    assert measures.makespan_s == pytest.approx(61.0)


def test_the_urgent_start_first() -> None:
    spreads = World(at_once(400, GPU), GpuOnly(), SEED).run()
    waits = [spread.wait_p50 for rank in Priority if (spread := spreads.spread(Lane.BULK, rank))]
    assert len(waits) == len(Priority)
    assert waits == sorted(waits)


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (World(made("death", "small", SEED), Ours(), SEED).run() for _ in range(2))
    assert first.makespan_s == second.makespan_s
    assert first.switches == second.switches > 0
    assert np.array_equal(first.stays(), second.stays())


def test_a_trickle_that_the_gpu_can_bear_never_reaches_a_cpu() -> None:
    ours = outcomes("trickle")[0]
    assert ours.cpu_share == 0.0
    assert ours.switches == 0


def test_nothing_starves_beside_a_stream_of_more_urgent_jobs() -> None:
    chance = np.random.default_rng(SEED)
    stream = drawn(chance, np.arange(0.0, 6_000.0, 1.0), Mix([(FIXED, 1.0)], priorities=(0, 1, 0, 0)))
    low = drawn(chance, np.full(3, 10.0), Mix([(LESIONS, 1.0)], priorities=(0, 0, 0, 1)))
    measures = World(Scenario("test", (GPU,), together(stream, low)), GpuOnly(), SEED).run()
    spread = measures.spread(Lane.BULK, Priority.LOW)
    # Low, normal and high outlived: 3600 + 900 + 300 s. Then it is the next of the urgent.
    assert spread is not None
    assert spread.wait_p99 < 4_800 + 30


@pytest.mark.parametrize("scenario", ["burst", "trickle", "death"])
def test_no_policy_beats_the_bound_and_ours_is_near_it(scenario: str) -> None:
    assert all(one.makespan_s >= one.bound_s * (1 - 1e-3) for one in outcomes(scenario))
    assert outcomes(scenario)[0].ratio <= RATIO


@pytest.mark.parametrize("key", ["bulk urgent", "bulk high"])
def test_urgent_and_high_jobs_end_no_later_than_under_any_baseline(key: str) -> None:
    # Of two hours a p95 is a matter of ten jobs: the mean of four such afternoons.
    days = [outcomes("busy hours", seed) for seed in (1, 2, 3, 4)]
    ours, *others = ([day[place].spreads[key].stay_p95 for day in days] for place in range(1 + len(BASELINES)))
    assert all(mean(ours) <= mean(other) * CHANCE for other in others)


@pytest.mark.parametrize("scenario", ["burst", "death"])
def test_urgent_and_high_jobs_end_sooner_than_on_gpus_alone(scenario: str) -> None:
    ours, gpu_only = outcomes(scenario)[:2]
    for key in ("bulk urgent", "bulk high"):
        assert ours.spreads[key].stay_p95 <= gpu_only.spreads[key].stay_p95
    assert ours.mean_stay_s < gpu_only.mean_stay_s


def test_a_verdict_names_what_was_lost() -> None:
    ours, gpu_only = outcomes("death")[:2]
    assert list(losses([ours, gpu_only])) == []
    assert any(loss.startswith("stay p95 of bulk urgent") for loss in losses([gpu_only, ours]))


def test_the_small_scenarios_have_the_machines_of_the_replay() -> None:
    assert {(part.pool, part.count, part.slots) for part in SMALL} == {(Pool.GPU, 1, 1), (Pool.CPU, 2, 1)}


def test_tenants_have_their_turns_by_weight_whoever_came_first() -> None:
    chance = np.random.default_rng(SEED)
    crowd, late = (
        drawn(chance, np.full(count, at), Mix([(FIXED, 1.0)], priorities=(0, 0, 1, 0), tenants=[(tenant, 1.0)]))
        for tenant, count, at in (("crowd", 600, 0.0), ("late", 100, 50.0))
    )
    shared = Scenario("test", (GPU,), together(crowd, late), weights={"late": 2.0})
    stays = World(shared, GpuOnly(), SEED, cost_s=0.0).run().stays()
    # One ends each second, so that its stay says when it came.
    came = np.arange(1, len(stays) + 1) - stays
    assert (came[90:180] > 25).sum() == pytest.approx(60, abs=3)
