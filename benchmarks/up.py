"""How long until `fleet up` answers: on an empty data folder (cold) and on one that was used before (warm).

    make bench-up                (ARGS="--rounds 10 --workers 2")

The clock runs from starting the command to the moment its status says that every process is healthy: PostgreSQL
answers and is migrated, an object was put and fetched, the api's /readyz is 200, each worker consumes. Targets on two
cores: warm 3 s, cold 12 s.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli.stack.layout import Layout
from cli.stack.status import read_status
from fleet.cpus import usable_cpus

TARGET_S = {"cold": 12.0, "warm": 3.0}


@dataclass(frozen=True)
class Round:
    """Seconds: from the command to each process being healthy, to all of them, and from SIGTERM to the end."""

    processes: dict[str, float]
    up_s: float
    down_s: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, help="warm starts; there is one cold start for each two")
    options.add_argument("--workers", type=int, default=1)
    chosen = options.parse_args()
    load = f"load before the first start: {os.getloadavg()[0]:.1f} on {usable_cpus()} cores"
    cold, warm = [], []
    for _ in range(max(1, chosen.rounds // 2)):
        with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
            cold.append(measure(Path(folder) / "data", chosen.workers))
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        measure(Path(folder) / "data", chosen.workers)
        warm = [measure(Path(folder) / "data", chosen.workers) for _ in range(chosen.rounds)]
    Console().print(table({"cold": cold, "warm": warm}), load)


def measure(data: Path, workers: int) -> Round:
    layout = Layout(data)
    begin = time.monotonic()
    command = [sys.executable, "-m", "cli.main", "up", "--data", str(data), "--port", "0", "--workers", str(workers)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as up:
        processes: dict[str, float] = {}
        while True:
            if up.poll() is not None:
                raise SystemExit(f"`fleet up` ended with code {up.returncode}: see {layout.supervisor_log}")
            status = read_status(layout.status_file)
            if status is not None and status.pid == up.pid:
                for child in status.children:
                    if child.state == "healthy":
                        processes.setdefault(child.name, time.monotonic() - begin)
                if status.healthy:
                    break
            time.sleep(0.01)
        up_s = time.monotonic() - begin
        up.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        up.wait()
    return Round(processes, up_s, time.monotonic() - begin)


def table(rounds: dict[str, list[Round]]) -> Table:
    shown = Table(title="Seconds until healthy: median (slowest)", title_justify="left")
    names = list(rounds["warm"][0].processes)
    for heading in ("start", "rounds", *names, "all", "target", "stop"):
        shown.add_column(heading, justify="left" if heading == "start" else "right")
    for kind, measured in rounds.items():
        cells = [figure([one.processes[name] for one in measured]) for name in names]
        all_s, down_s = figure([one.up_s for one in measured]), figure([one.down_s for one in measured])
        shown.add_row(kind, str(len(measured)), *cells, all_s, f"{TARGET_S[kind]:.0f}", down_s)
    return shown


def figure(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({max(seconds):.2f})"


if __name__ == "__main__":
    main()
