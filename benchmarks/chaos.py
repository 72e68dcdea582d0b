"""A soak: jobs come in from several callers while everything around them fails, drawn from a seed.

    make chaos                      (ARGS="--seed 2 --minutes 10 --jobs 2000 --long 20")

Real servers, an api and three workers as processes of their own, each behind loopback proxies. A fault injector kills,
freezes, flushes, cuts and restarts while submitters go on over HTTP. After the time everything is mended, the accepted
jobs get a while to end, and then the record, a trigger of our own in the database and the stored objects are held
against what the callers were told. Ends with 1 when a job was lost, took effect twice or has a wrong result.
docs/reliability.md has what came out.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from soak import judge, plan, record, report, sweep
from soak.counters import Counters
from soak.injector import Injector
from soak.ledger import Clock, Ledger
from soak.recovery import recoveries
from soak.submitters import Submitters, Trap

from cli.stack import Stack
from fleet.migrate import migrate
from fleet.settings import Settings
from tests.support import witness
from tests.support.faults import Breakable
from tests.support.threshold_model import make_models
from tests.support.whole_fleet import WholeFleet, whole_fleet

ROOT = Path(__file__).resolve().parents[1]
_TICK_S = 0.05
_TELL_EVERY_S = 15.0


def main() -> int:
    chosen = _options()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    kept = Path(chosen.logs or tempfile.mkdtemp(prefix="fleet-chaos-logs-"))
    try:
        with tempfile.TemporaryDirectory(prefix="fleet-chaos-") as folder:
            found = soak(chosen, Path(folder), kept)
    except KeyboardInterrupt:
        print("stopped; nothing is left running", file=sys.stderr)
        return 130
    path = Path(chosen.json or ROOT / "out" / f"chaos-{chosen.seed}.json")
    report.write(found, path)
    print("\n".join(report.table(found)))
    print(f"\nmore is in {path}")
    failed = any(found["broken_promises"].values())
    if failed or chosen.logs:
        print(f"the logs of all processes are in {kept}")
    else:
        shutil.rmtree(kept, ignore_errors=True)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--minutes", type=float, default=10.0, help="how long jobs come in and faults happen")
    options.add_argument("--jobs", type=int, default=2000, help="short ones")
    options.add_argument("--long", type=int, default=20, help="jobs that run for several seconds")
    options.add_argument("--workers", type=int, default=3)
    options.add_argument("--lease", type=float, default=10.0, help="LEASE_S; production has 30")
    options.add_argument("--patience", type=float, default=240.0, help="seconds that the last jobs get to end")
    options.add_argument("--json", help="where the whole report goes; default out/chaos-SEED.json")
    options.add_argument("--logs", help="keep the processes' logs in this folder")
    return options.parse_args()


def soak(chosen: argparse.Namespace, folder: Path, logs: Path) -> dict[str, Any]:
    """Everything that was found; see `report.figures`."""
    models = folder / "models"
    shutil.copytree(ROOT / "models" / "echo", models / "echo")
    make_models(models)
    # With every fsync: a PostgreSQL that crashes must keep what it had confirmed.
    with Stack(folder / "data", api=False, workers=0, durable=True) as stack:
        settings = stack.settings()
        migrate(settings.database_dsn)
        witness.install(settings.database_dsn)
        environment = {
            "MODELS_PATH": str(models),
            "LEASE_S": str(chosen.lease),
            "WORKER_DRAIN_S": "5",
            "WORKER_CONCURRENCY": "2",
            "WORKER_SCRATCH": str(folder / "scratch"),
            # Celery writes down what it could not give back before it ends.
            "TMPDIR": str(folder),
        }
        with whole_fleet(settings, logs, environment, workers=chosen.workers) as fleet:
            return _run(chosen, settings, fleet, Breakable(stack))


def _run(chosen: argparse.Namespace, settings: Settings, fleet: WholeFleet, servers: Breakable) -> dict[str, Any]:
    duration_s = chosen.minutes * 60
    jobs = plan.plan_jobs(chosen.seed, short=chosen.jobs, long=chosen.long, duration_s=duration_s)
    faults = plan.plan_faults(chosen.seed, workers=chosen.workers, duration_s=duration_s)
    clock, ledger, trap, counters = Clock(), Ledger(), Trap(), Counters(fleet)
    submitters = Submitters(fleet.url, jobs, clock, ledger, trap)
    injector = Injector(faults, fleet, servers, clock, trap, chosen.seed)
    counters.start()
    submitters.start()
    with _submitting(submitters):
        progress = Progress(clock, ledger, injector, settings)
        while clock.now() < duration_s:
            injector.tick()
            progress.tell()
            time.sleep(_TICK_S)
        injector.heal()
        mended_at = clock.now()
        # Submitters first: what they still hold back would only come later.
        while clock.now() < mended_at + chosen.patience and (submitters.busy or _still_open(settings)):
            injector.tick()
            progress.tell()
            time.sleep(0.2)
    drained_s = clock.now() - mended_at
    counters.close()
    orphans = len(sweep.orphans(settings))
    # Before the verdict: what the walk removes must not be missing anywhere.
    sweep.sweep(settings)
    changes = witness.changes(settings.database_dsn)
    verdict = judge.judge(settings, ledger, changes)
    missing = {job.number for job in jobs} - ledger.accepted.keys() - ledger.refused.keys()
    verdict.wrong += [f"soak-{number} was never accepted" for number in sorted(missing)]
    queues = {row["id"]: row["queue"] for row in record.rows(settings.database_dsn)}
    recovered = recoveries(changes, injector.hits, queues)
    found = report.figures(verdict, recovered, counters, ledger, injector.hits)
    found |= {"orphans": orphans, "orphans_after_sweep": len(sweep.orphans(settings))}
    asked = {"seed": chosen.seed, "minutes": chosen.minutes, "lease_s": chosen.lease, "workers": chosen.workers}
    more = {"planned": len(jobs), "faults_left_out": injector.left_out, "settled_after_s": round(drained_s, 1)}
    return asked | more | found


@contextmanager
def _submitting(submitters: Submitters) -> Iterator[None]:
    try:
        yield
    finally:
        submitters.stop()


def _still_open(settings: Settings) -> bool:
    try:
        return bool(record.open_jobs(settings.database_dsn))
    except psycopg.Error:
        return True


class Progress:
    """A line on standard error every now and then."""

    def __init__(self, clock: Clock, ledger: Ledger, injector: Injector, settings: Settings) -> None:
        self._clock = clock
        self._ledger = ledger
        self._injector = injector
        self._settings = settings
        self._next_s = _TELL_EVERY_S

    def tell(self) -> None:
        now = self._clock.now()
        if now < self._next_s:
            return
        self._next_s = now + _TELL_EVERY_S
        try:
            still = record.open_jobs(self._settings.database_dsn)
            told = ", ".join(f"{count} {state}" for state, count in sorted(still.items())) or "none open"
        except psycopg.Error:
            told = "record away"
        last = self._injector.hits[-1].kind.value if self._injector.hits else "none"
        accepted, hits = len(self._ledger.accepted), len(self._injector.hits)
        print(f"{now:6.0f} s  {accepted} accepted, {told}; {hits} faults, last: {last}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
