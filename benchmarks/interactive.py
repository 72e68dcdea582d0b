"""Interactive jobs while volumes run beside them on the same processor, against the same jobs on an idle machine.

    make bench-interactive            (ARGS="--rounds 3 --seconds 15")

On a stack as `fleet up` starts it (one process for each lane) one client sends short jobs one after the other with a
pause between: the echo, which costs next to nothing, and a chain of matrix products of about ten milliseconds. In each
round it does so first with nothing else to do, then while the real head scan goes through the brain-extraction model in
the bulk lane, again and again, as many at once as that lane runs. The bar is a p95 of twice the idle p95.
"""

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from cancel import SIDE, make_model

from cli.stack import Stack
from fleet.cpus import usable_cpus
from fleet_client import Client

ROOT = Path(__file__).resolve().parents[1]
SCAN = ROOT / "examples" / "data" / "head-t1.nii.gz"
BULK_MODEL = "brain-extraction"
#: Matrix products of 256 × 256 one after the other.
CHAIN = 20
BODIES: dict[str, dict[str, Any]] = {
    "echo": {"model": "echo", "params": {"values": [1.0, 2.0, 3.0]}},
    "chain": {"model": "chain", "params": {"values": [1.0] * SIDE}},
}
PAUSE_S = 0.02
WARM_UP = 5
BAR = 2.0
STAGES = ("queue", "load", "infer", "encode")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=10.0, help="of each model, idle and beside, in a round")
    options.add_argument("--only", choices=sorted(BODIES))
    options.add_argument("--nice", help="WORKER_NICE of all workers; empty: as it is by default")
    chosen = options.parse_args()
    names = [chosen.only] if chosen.only else list(BODIES)
    told = {"WORKER_NICE": chosen.nice} if chosen.nice else {}
    idle: dict[str, list[Sample]] = defaultdict(list)
    beside: dict[str, list[Sample]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        models = Path(folder) / "models"
        make_model(models / "chain", CHAIN, "interactive")
        for name in ("echo", BULK_MODEL):
            shutil.copytree(ROOT / "models" / name, models / name)
        with Stack(Path(folder) / "data", workers=1, port=0, models=models, environment=told) as stack:
            for name in names:
                asked(stack.url, name, 2.0)
            volumes, bulk_s, beside_s = 0, 0.0, 0.0
            for _ in range(chosen.rounds):
                for name in names:
                    idle[name] += asked(stack.url, name, chosen.seconds)
                with volumes_running(stack.url) as ended:
                    began, used_s = time.monotonic(), cpu_s(stack)
                    for name in names:
                        beside[name] += asked(stack.url, name, chosen.seconds)
                    bulk_s += cpu_s(stack) - used_s
                    beside_s += time.monotonic() - began
                volumes += len(ended)
    print(f"{usable_cpus()} cores, of which the volumes had {bulk_s / beside_s:.2f} beside short jobs; {volumes} ended")
    for name in names:
        report(name, idle[name], beside[name])


def cpu_s(stack: Stack) -> float:
    """Seconds of processor that the bulk process has had."""
    times = psutil.Process(stack.pids["worker-1-bulk"]).cpu_times()
    return times.user + times.system


class Sample:
    """One job: seconds from the request to its answer, and those of its stages by the record."""

    def __init__(self, seconds: float, stages: dict[str, float]) -> None:
        self.seconds = seconds
        self.stages = stages


def asked(url: str, name: str, seconds: float) -> list[Sample]:
    """One job after the other, for so long; the first ones do not count."""
    samples: list[Sample] = []
    with httpx.Client(base_url=url, headers={"Prefer": "wait=30"}, timeout=60, trust_env=False) as http:
        until, sent = time.monotonic() + seconds, 0
        while time.monotonic() < until or sent < WARM_UP + 2:
            began = time.perf_counter()
            job = http.post("/api/v1/jobs", json=BODIES[name]).raise_for_status().json()
            took = time.perf_counter() - began
            if job["state"] != "succeeded":
                raise SystemExit(f"a job is {job['state']} after {took:.1f} s: {job['error']}")
            sent += 1
            if sent > WARM_UP:
                samples.append(Sample(took, job["timings"]))
            time.sleep(PAUSE_S)
    return samples


@contextmanager
def volumes_running(url: str) -> Iterator[list[str]]:
    """While the block lasts there is always a volume running, and one more waiting; yields those that ended."""
    ended: list[str] = []
    over = threading.Event()

    def keep() -> None:
        with Client(url) as client:
            while not over.is_set():
                job = client.segment(SCAN, model=BULK_MODEL)
                while not job.refresh().ended and not over.is_set():
                    over.wait(0.5)
                if not job.ended:
                    job.cancel()
                elif job.state != "succeeded":
                    raise SystemExit(f"a volume ended as {job.state}")
                else:
                    ended.append(job.id)

    def infers(http: httpx.Client) -> bool:
        page = http.get("/api/v1/jobs", params={"state": "running", "limit": 50}).raise_for_status().json()
        return any(job["model"] == BULK_MODEL and job["stage"] == "infer" for job in page["jobs"])

    threads = [threading.Thread(target=keep) for _ in range(min(2, usable_cpus()) + 1)]
    for thread in threads:
        thread.start()
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
            while not infers(http):
                time.sleep(0.2)
        yield ended
    finally:
        over.set()
        for thread in threads:
            thread.join()
        time.sleep(2.0)


def report(name: str, idle: list[Sample], beside: list[Sample]) -> None:
    print(f"\n{name}: {len(idle)} jobs idle, {len(beside)} beside volumes")
    print(f"  {'ms':24}{'p50':>9}{'p95':>9}{'p99':>9}")
    for title, samples in (("idle", idle), ("beside volumes", beside)):
        seconds = [sample.seconds for sample in samples]
        print(f"  {title:24}" + "".join(f"{1000 * at(seconds, share):>9.1f}" for share in (0.50, 0.95, 0.99)))
        for stage in STAGES:
            times = [sample.stages.get(stage, 0.0) for sample in samples]
            print(f"    of it {stage:16}" + "".join(f"{1000 * at(times, share):>9.1f}" for share in (0.50, 0.95, 0.99)))
    ratio = at([s.seconds for s in beside], 0.95) / at([s.seconds for s in idle], 0.95)
    print(f"  p95 beside / idle: {ratio:.2f}    bar {BAR:g}")


def at(seconds: list[float], share: float) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[round(share * 100) - 1]


if __name__ == "__main__":
    main()
