"""A trace against the worker's own bookkeeping, without sessions: reloads, seconds of loading, and what was held."""

from dataclasses import dataclass

from cache_lab.traces import Trace
from worker.engine.eviction import BestOf, Frequency, Recency
from worker.engine.residency import Place, Residency

#: What a request takes besides loading, in the simulation.
RUN_S = 0.02


@dataclass(frozen=True)
class Outcome:
    policy: str
    loads: int
    load_s: float
    p95_s: float
    #: The most that was held, as a part of the budget.
    peak: float


def compared(trace: Trace, budget: int) -> list[Outcome]:
    """Ours last. LRU by count gets the largest count that keeps the budget on this trace, as only hindsight can."""
    return [
        by_count(trace, budget),
        run(trace, "LRU by bytes", Residency(budget, Recency()), budget),
        run(trace, "LFU by bytes", Residency(budget, Frequency()), budget),
        run(trace, "ours", Residency(budget, BestOf()), budget),
    ]


def by_count(trace: Trace, budget: int) -> Outcome:
    for most in range(len(trace.sizes), 0, -1):
        outcome = run(trace, f"LRU by count ({most})", Residency(most, Recency(), by_count=True), budget)
        if outcome.peak <= 1:
            return outcome
    raise AssertionError("not even one model at a time keeps the budget")


def run(trace: Trace, policy: str, residency: Residency, budget: int) -> Outcome:
    places: dict[int, Place] = {}
    held = peak = 0
    waits: list[float] = []
    for model in trace.requests:
        wait = RUN_S
        if model not in places:
            place = Place(str(model), 1 if residency.by_count else trace.sizes[model], trace.costs[model])
            for victim in residency.victims(place, list(places.values())) or []:
                residency.remove(victim)
                del places[int(victim.key)]
                held -= trace.sizes[int(victim.key)]
            residency.add(place)
            places[model] = place
            held += trace.sizes[model]
            peak = max(peak, held)
            wait += trace.costs[model]
        residency.used(places[model])
        waits.append(wait)
    loads = sum(wait > RUN_S for wait in waits)
    waits.sort()
    return Outcome(policy, loads, sum(waits) - RUN_S * len(waits), waits[int(0.95 * len(waits))], peak / budget)
