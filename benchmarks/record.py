"""The record with five million jobs against one with five thousand: each statement's time, and by which index it goes.

    make bench-record            (ARGS="--rows 1000000 --calls 100 --plans --data FOLDER")

Fills two databases of an embedded PostgreSQL with a month of a busy fleet (about ten minutes and 12 GB for five million
rows; with `--data` they are kept for the next run), and asks both of them the same in turns through the code of the
api, the workers and the reconciler. Shown are the medians, their ratio, the scans, the rows that were read in vain and
the pages of 8 KiB that were looked at. `--plans` prints EXPLAIN (ANALYZE, BUFFERS) of each statement as it really ran,
with the prepared plan. Ends with 1 when a table is read from end to end.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from big_record.cases import GROUPS, Case, World
from big_record.fill import filled
from big_record.timing import Plans, TimedDatabase

from cli.stack import Stack

WARM_UP = 8
#: Tables of a few rows, for which an index would be the detour.
TINY = {"worker_death", "unnest", "record_identity"}


@dataclass(frozen=True)
class Figures:
    small_ms: float
    large_ms: float
    plans: Plans

    @property
    def whole_tables(self) -> list[str]:
        return [scan for scan in self.plans.scans if "Seq Scan" in scan and scan.split()[-1] not in TINY]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--small", type=int, default=5_000)
    options.add_argument("--calls", type=int, default=200)
    options.add_argument("--only", default="", help="cases whose name has this in it")
    options.add_argument("--plans", action="store_true")
    options.add_argument("--data", type=Path, help="keep the databases here")
    chosen = options.parse_args()
    place = nullcontext(chosen.data) if chosen.data else tempfile.TemporaryDirectory()
    with place as folder, Stack(Path(folder), api=False, workers=0) as stack:
        dsn = stack.settings().database_dsn
        with world(filled(dsn, chosen.small)) as small, world(filled(dsn, chosen.rows)) as large:
            seen = show(small, large, chosen)
    whole = [f"{name}: {', '.join(figures.whole_tables)}" for name, figures in seen.items() if figures.whole_tables]
    if whole:
        raise SystemExit("read from end to end:\n" + "\n".join(whole))


@contextmanager
def world(dsn: str) -> Iterator[World]:
    database = TimedDatabase(dsn)
    with database:
        database.prepare()
        yield World(database)


def show(small: World, large: World, chosen: argparse.Namespace) -> dict[str, Figures]:
    seen = {}
    for group, cases in GROUPS.items():
        print(f"\n{group:36}{chosen.small:>9}{chosen.rows:>10}   ratio   in vain   pages   scans", flush=True)
        for case in cases:
            if chosen.only not in case.name:
                continue
            figures = seen[case.name] = measured(case, small, large, chosen.calls)
            print(row(case.name, figures), flush=True)
            if chosen.plans:
                print("\n".join(figures.plans.texts), flush=True)
    return seen


def measured(case: Case, small: World, large: World, calls: int) -> Figures:
    """In turns, so that whatever else the machine does is done to both."""
    spent: dict[World, list[float]] = {small: [], large: []}
    for _ in range(WARM_UP + calls):
        for world, times in spent.items():
            times.append(once(case, world))
    prepared = case.prepare(large)
    plans = large.database.plans_of(lambda: case.run(large, prepared))
    p50 = {world: 1000 * statistics.median(times[WARM_UP:]) for world, times in spent.items()}
    return Figures(p50[small], p50[large], plans)


def once(case: Case, world: World) -> float:
    """Seconds in the database and on the way to it, the rows as Python values included."""
    prepared = case.prepare(world)
    world.database.spent_s = 0.0
    case.run(world, prepared)
    return world.database.spent_s


def row(name: str, figures: Figures) -> str:
    scans = ", ".join(
        scan.replace("Index Scan using ", "").replace("Index Only Scan using ", "only ") for scan in figures.plans.scans
    )
    ratio = figures.large_ms / figures.small_ms
    return (
        f"{name:36}{figures.small_ms:>9.2f}{figures.large_ms:>10.2f}{ratio:>8.2f}"
        f"{figures.plans.rows_removed:>10}{figures.plans.pages:>8}   {scans}"
    )


if __name__ == "__main__":
    main()
