"""The report of a soak: a table for people, JSON for everything else."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from soak.counters import Counters
from soak.injector import Hit
from soak.judge import Verdict
from soak.ledger import Ledger
from soak.recovery import Recovery, percentile

_SHOWN = 12


def figures(
    verdict: Verdict, recovered: Sequence[Recovery], counters: Counters, ledger: Ledger, hits: Sequence[Hit]
) -> dict[str, Any]:
    """Everything that the soak found, as JSON."""
    explained = [one for one in recovered if one.fault is not None]
    seconds = [one.seconds for one in explained]
    by_fault = {
        kind: _spread([one.seconds for one in explained if one.fault == kind])
        for kind in sorted({str(one.fault) for one in explained})
    }
    slowest = sorted(explained, key=lambda one: -one.seconds)[:8]
    return {
        "accepted": verdict.accepted,
        **{state: verdict.states[state] for state in ("succeeded", "failed", "cancelled", "expired")},
        "failed_by_code": dict(verdict.failed_by_code),
        "lost": len(verdict.lost),
        "double_commits": len(verdict.doubled),
        "wrong": len(verdict.wrong),
        "duplicate_claims_refused": counters.total("fleet_worker_claims_refused_total"),
        "stale_commits_refused": counters.total("fleet_worker_runs_total", outcome="stale"),
        "published_again": counters.total("fleet_reconciler_actions_total", action="published"),
        "reconciler_actions": {
            action: counters.total("fleet_reconciler_actions_total", action=action)
            for action in ("lease-lapsed", "message-lost", "broker-forgot", "deadline-passed")
        },
        "recovery_s": _spread(seconds),
        # What does not depend on who else waits: until the job was in its queue again.
        "requeued_s": _spread([one.noticed_s for one in explained]),
        "recovery_s_by_fault": by_fault,
        "slowest_recoveries": [vars(one) | {"job": str(one.job)} for one in slowest],
        "attempts_lost_without_a_fault": [str(one.job) for one in recovered if one.fault is None],
        "attempts": {str(count): jobs for count, jobs in sorted(verdict.attempts.items())},
        "answers": dict(ledger.answers.most_common()),
        "slowest_503_s": round(ledger.slowest_503_s, 2),
        # A rolling restart is one fault with several hits.
        "faults": dict(Counter(kind for _, kind in {(hit.number, hit.kind.value) for hit in hits})),
        "fault_log": [vars(hit) for hit in hits],
        "broken_promises": {"lost": verdict.lost, "doubled": verdict.doubled, "wrong": verdict.wrong},
        "unlucky": verdict.unlucky,
        "touched_after_end": dict(verdict.touched_after_end),
    }


def _spread(seconds: Sequence[float]) -> dict[str, Any]:
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    found = {name: percentile(seconds, share) for name, share in shares.items()}
    return {
        "count": len(seconds),
        **{name: None if value is None else round(value, 1) for name, value in found.items()},
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    """Line by line."""
    for name in ("seed", "minutes", "lease_s", "accepted", "succeeded", "failed", "cancelled", "expired"):
        yield f"{name.replace('_', ' '):28}{found[name]:>10}"
    for code, count in found["failed_by_code"].items():
        yield f"  {code:26}{count:>10}"
    kept = ("lost", "double_commits", "wrong", "duplicate_claims_refused", "stale_commits_refused")
    for name in (*kept, "orphans", "orphans_after_sweep"):
        yield f"{name.replace('_', ' '):28}{found[name]:>10}"
    yield ""
    heading = f"faults ({sum(found['faults'].values())})"
    yield f"{heading:52}{'times':>6}{'hit':>6}{'p50 s':>8}{'p99 s':>8}{'max s':>8}"
    for kind, times in sorted(found["faults"].items()):
        spread = found["recovery_s_by_fault"].get(kind, _spread([]))
        yield f"  {kind:50}{times:>6}" + _cells(spread)
    yield f"  {'all recoveries':50}{'':>6}" + _cells(found["recovery_s"])
    yield f"  {'of these, until in the queue again':50}{'':>6}" + _cells(found["requeued_s"])
    for kind, faults in found["broken_promises"].items():
        for fault in faults[:_SHOWN]:
            yield f"{kind.upper()}: {fault}"
    for told in found["unlucky"][:_SHOWN]:
        yield f"unlucky: {told}"


def _cells(spread: dict[str, Any]) -> str:
    return f"{spread['count']:>6}" + "".join(
        f"{'' if spread[name] is None else spread[name]:>8}" for name in ("p50", "p99", "max")
    )


def write(found: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, default=str) + "\n", "utf-8")
