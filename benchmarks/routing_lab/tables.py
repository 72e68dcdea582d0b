"""Outcomes as text."""

from collections.abc import Iterator, Sequence

from fleet.contracts import Priority
from routing_lab.measures import Outcome


def summary(outcomes: Sequence[Outcome]) -> str:
    """One scenario: a line for each policy."""
    first = outcomes[0]
    lines = [
        f"{first.scenario}, {first.scale}: {first.jobs:,} jobs; no policy can end before {first.bound_s:,.1f} s",
        f"  {'':18}{'makespan s':>11}{'× bound':>9}{'mean stay s':>12}{'on CPU':>8}{'needless':>9}{'switches':>9}",
    ]
    lines += [
        f"  {one.policy:18}{one.makespan_s:>11,.1f}{one.ratio:>9.3f}{one.mean_stay_s:>12.3g}{one.cpu_share:>8.1%}"
        f"{one.needless:>9,}{one.switches:>9,}   (simulated in {one.took_s:.1f} s)"
        for one in outcomes
    ]
    return "\n".join(lines)


def waits(outcomes: Sequence[Outcome]) -> str:
    """p50 / p95 / p99 of waiting and p95 of staying, in seconds."""
    lines = [f"  {'':19}{'policy':18}{'wait p50':>10}{'p95':>10}{'p99':>10}{'stay p95':>10}"]
    for key in outcomes[0].spreads:
        for one in outcomes:
            spread = one.spreads[key]
            figures = (spread.wait_p50, spread.wait_p95, spread.wait_p99, spread.stay_p95)
            lines.append(
                f"  {key if one is outcomes[0] else '':19}{one.policy:18}"
                + "".join(f"{figure:>10.3g}" if figure < 1000 else f"{figure:>10,.0f}" for figure in figures)
            )
    return "\n".join(lines)


#: How far the makespan may be from the bound, and what of a difference is chance.
RATIO, CHANCE, CHANCE_S = 1.15, 1.05, 0.002


def losses(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Where ours, the first one, misses what it must reach."""
    ours, baselines = outcomes[0], outcomes[1:]
    if ours.ratio > RATIO:
        yield f"makespan is {ours.ratio:.3f} of the bound"
    for key, spread in ours.spreads.items():
        if not key.endswith((Priority.URGENT.name.lower(), Priority.HIGH.name.lower())):
            continue
        for one in baselines:
            other = one.spreads[key]
            if spread.stay_p95 > other.stay_p95 * CHANCE + CHANCE_S:
                yield f"stay p95 of {key}: {spread.stay_p95:.3g} s, {one.policy} {other.stay_p95:.3g} s"
            if spread.wait_p95 > other.wait_p95 * CHANCE + CHANCE_S:
                yield f"wait p95 of {key}: {spread.wait_p95:.3g} s, {one.policy} {other.wait_p95:.3g} s"


def verdict(outcomes: Sequence[Outcome]) -> str:
    found = list(losses(outcomes))
    return "\n".join(f"  ours loses: {loss}" for loss in found) if found else "  ours loses nowhere"
