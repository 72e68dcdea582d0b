"""Which models stay in memory: reloads against LRU by count, what loading does to others, and what comes back.

    make bench-cache            (ARGS="--seeds 5 --no-replay")

Forty models that do not all fit, five shapes of demand (`cache_lab/traces.py`). First simulated, with the worker's own
bookkeeping and a budget of a quarter and of a half of all models; then replayed with real models in one process through
the worker's registry. LRU by count gets the largest count that keeps the budget on that very trace, which nobody can
know before. It ends with status 1 when ours loads more often or longer than LRU by count, or when a budget is exceeded.
docs/how-to/keep-models-in-memory.md has the results.
"""

import argparse
import logging
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean

import structlog
from cache_lab.replayed import SHRUNK, beside_loads, cycles, replay, write_model
from cache_lab.simulated import Outcome, by_count, compared
from cache_lab.traces import SHAPES, Trace, made

from worker.engine.arena import share_arena

_PARTS = (0.25, 0.5)
_MIB = 1024**2


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=4, help="traces of each shape")
    options.add_argument("--requests", type=int, default=6000)
    options.add_argument("--no-replay", action="store_true", help="simulate only")
    chosen = options.parse_args()
    faults = [fault for part in _PARTS for fault in simulate(part, chosen.seeds, chosen.requests)]
    if not chosen.no_replay:
        share_arena()
        with tempfile.TemporaryDirectory() as folder:
            faults += replays(Path(folder), min(500, chosen.requests))
            others(Path(folder))
    for fault in faults:
        print(f"NOT AS PROMISED: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


def simulate(part: float, seeds: int, requests: int) -> list[str]:
    print(f"\nsimulated: {requests} requests, budget {part:.0%} of all models, mean of {seeds} traces")
    print(f"{'':12}{'policy':18}{'loads':>8}{'load s':>9}{'p95 s':>8}{'most held':>11}")
    faults = []
    for shape in SHAPES:
        runs: dict[str, list[Outcome]] = {}
        for seed in range(seeds):
            trace = made(shape, requests, seed)
            for outcome in compared(trace, round(part * sum(trace.sizes))):
                runs.setdefault(outcome.policy.split(" (")[0], []).append(outcome)
        for policy, outcomes in runs.items():
            print(
                f"{shape:12}{policy:18}{mean(o.loads for o in outcomes):8.0f}{mean(o.load_s for o in outcomes):9.0f}"
                f"{mean(o.p95_s for o in outcomes):8.2f}{max(o.peak for o in outcomes):11.0%}"
            )
        for seed, (ours, other) in enumerate(zip(runs["ours"], runs["LRU by count"], strict=True)):
            if ours.loads >= other.loads or ours.load_s >= other.load_s:
                faults.append(f"{shape}, trace {seed}, budget {part:.0%}: {ours} against {other}")
            if ours.peak > 1:
                faults.append(f"{shape}, trace {seed}: the budget was exceeded, {ours}")
    return faults


def replays(root: Path, requests: int) -> list[str]:
    faults = []
    print(f"\nreplayed: {requests} requests, real models of a {SHRUNK}th of the size, budget a quarter of all")
    print(f"{'':12}{'policy':20}{'loads':>7}{'load s':>8}{'p50 ms':>8}{'p95 ms':>8}{'counted':>9}{'grown':>7}")
    for shape in SHAPES:
        trace = made(shape, requests, 0)
        trace = replace(trace, sizes=[max(_MIB, size // SHRUNK) for size in trace.sizes])
        shelf = root / shape
        for model, size in enumerate(trace.sizes):
            write_model(shelf, f"m{model}", size)
        # What every session takes besides its weights does not shrink with them.
        budget = sum(trace.sizes) // 4 + 24 * _MIB
        results = replay(shelf, trace, budget, _hindsight(trace, budget))
        for one in results:
            print(
                f"{shape:12}{one.policy:20}{one.loads:7}{one.load_s:8.2f}{one.p50_ms:8.2f}{one.p95_ms:8.2f}"
                f"{one.counted:9.0%}{one.grown:7.0%}"
            )
        counted, _, ours = results
        if ours.loads >= counted.loads:
            faults.append(f"{shape}, replayed: {ours.loads} loads against {counted.loads}")
        # Besides the models' own there are the arrays of the runs.
        if ours.counted > 1 or ours.grown > 1.1:
            faults.append(f"{shape}, replayed: the budget was exceeded, {ours}")
        shutil.rmtree(shelf)
    return faults


def _hindsight(trace: Trace, budget: int) -> int:
    return int(by_count(trace, budget).policy.removesuffix(")").rpartition("(")[2])


def others(root: Path) -> None:
    write_model(root, "served", 4 * _MIB)
    write_model(root, "large", 200 * _MIB)
    seen = beside_loads(root, "served", "large", 8.0)
    print(
        f"\nrequests of one model while another of 200 MiB is loaded {seen.loads} times: p50 {seen.loading_p50:.2f} ms,"
    )
    print(f"p95 {seen.loading_p95:.2f} ms; while nothing is loaded: {seen.alone_p50:.2f} and {seen.alone_p95:.2f} ms")
    real = Path("models/efficientnet-lite0")
    if real.is_dir():
        shutil.copytree(real, root / real.name)
    print("\nmemory of the process in MiB    before   loaded   after 50 loads and unloads")
    for name in ("large", *([real.name] if real.is_dir() else [])):
        before, loaded, after = (value / _MIB for value in cycles(root, name, 50))
        print(f"{name:30}{before:8.0f}{loaded:9.0f}{after:9.0f}  ({after / before - 1:+.1%})")


if __name__ == "__main__":
    main()
