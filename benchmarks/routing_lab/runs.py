"""Runs scenarios under policies."""

import time
from collections.abc import Iterator

import numpy as np

from fleet.contracts import Lane, Priority
from routing_lab.bound import bound_s
from routing_lab.measures import Outcome
from routing_lab.policies import SPLITS, Depth, GpuOnly, Ours, Policy, Split
from routing_lab.scenarios import SCENARIOS, Scenario
from routing_lab.world import COST_S, World


def compared(scale: str, name: str, seed: int) -> Iterator[Outcome]:
    """Ours first, then the baselines; of the fixed splits the one with the shortest mean stay."""
    scenario = made(name, scale, seed)
    bound = bound_s(scenario, COST_S)
    for policy in (Ours(), GpuOnly(), Depth()):
        yield outcome(scenario, scale, policy, bound, seed)
    yield outcome(scenario, scale, best_split(name, scale, seed), bound, seed)


def made(name: str, scale: str, seed: int) -> Scenario:
    return SCENARIOS[name](scale, np.random.default_rng(seed))


def best_split(name: str, scale: str, seed: int) -> Split:
    """Found on the small day for both days: a million jobs for each part would only take long."""
    scenario = made(name, "small" if name == "day" else scale, seed)
    tried = [Split(part) for part in SPLITS]
    return min(tried, key=lambda split: outcome(scenario, scale, split, 1.0, seed).mean_stay_s)


def outcome(scenario: Scenario, scale: str, policy: Policy, bound: float, seed: int) -> Outcome:
    began = time.perf_counter()
    measures = World(scenario, policy, seed).run()
    spreads = {
        f"{lane.value} {priority.name.lower()}": spread
        for lane in Lane
        for priority in Priority
        if (spread := measures.spread(lane, priority)) is not None
    }
    return Outcome(
        scenario.name,
        scale,
        policy.name,
        measures.jobs,
        measures.makespan_s,
        bound,
        float(measures.stays().mean()),
        measures.on_cpu / max(1, measures.flexible),
        measures.needless,
        measures.switches,
        measures.lost_runs,
        time.perf_counter() - began,
        spreads,
    )
