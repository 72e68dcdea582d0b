"""What a job costs besides its model: a no-op through HTTP → queue → worker → record → answer.

    make bench-noop            (ARGS="--jobs 500 --clients 16")

Each request submits a job for the model `echo` (one Identity node) with `Prefer: wait` on a kept connection and is
timed until the answer with the result is there. Beside it, in the same run, what the record does for a job: how many
statements and how many bytes of its log (WAL), and the three statements by themselves, with and without the wait for
the disk. Last the bare parts that such a job cannot do without: the model itself, one statement to PostgreSQL, one push
to Redis.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import onnxruntime as ort
import psycopg
import redis
from record_cost import Meter, round_trips

from cli.stack import Stack

BODY = {"model": "echo", "params": {"values": [1.0, 2.0, 3.0]}}
WARM_UP = 30


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=300)
    options.add_argument("--clients", type=int, default=16)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), workers=1) as stack:
        with Meter(stack.settings().database_dsn) as meter:
            alone, stages = run(stack.url, jobs=chosen.jobs, clients=1)
        began = time.perf_counter()
        crowd, _ = run(stack.url, jobs=chosen.jobs, clients=chosen.clients)
        rate = len(crowd) / (time.perf_counter() - began)
        trips = {wait: round_trips(stack.settings().database_dsn, wait) for wait in ("on", "off")}
        parts = bare_parts(stack)
    print(f"{'':32}{'p50 ms':>9}{'p99 ms':>9}")
    row("one client", alone)
    row(f"{chosen.clients} clients ({rate:.0f} jobs/s)", crowd)
    print("\nof one client's job, by the record (p50 ms):")
    for name in ("queue", "load", "fetch", "decode", "infer", "encode", "store"):
        print(f"  {name:30}{1000 * statistics.median(times.get(name, 0.0) for times in stages):>9.2f}")
    jobs = chosen.jobs + WARM_UP
    statements, wal = meter.statements / jobs, meter.wal_bytes / jobs
    print(f"\nof the record: {statements:.1f} statements and {wal:.0f} bytes of WAL a job")
    for wait, verbs in trips.items():
        for name, seconds in verbs.items():
            row(f"{name}, synchronous_commit {wait}", seconds)
    print("\nthe bare parts, in the same run:")
    for name, seconds in parts.items():
        row(name, seconds)


def run(url: str, *, jobs: int, clients: int) -> tuple[list[float], list[dict[str, float]]]:
    """Seconds per job, and the stages that the record shows."""
    with httpx.Client(base_url=url, headers={"Prefer": "wait=30"}, timeout=60) as http:

        def once(_: int) -> tuple[float, dict[str, float]]:
            began = time.perf_counter()
            answer = http.post("/api/v1/jobs", json=BODY)
            seconds = time.perf_counter() - began
            job = answer.raise_for_status().json()
            if job["state"] != "succeeded":
                raise SystemExit(f"a job ended as {job['state']}: {job['error']}")
            return seconds, job["timings"]

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(once, range(WARM_UP)))
            outcomes = list(pool.map(once, range(jobs)))
    return [seconds for seconds, _ in outcomes], [stages for _, stages in outcomes]


def bare_parts(stack: Stack) -> dict[str, list[float]]:
    settings = stack.settings()
    session = ort.InferenceSession("models/echo/1/model.onnx", providers=["CPUExecutionProvider"])
    values = np.ones(3, np.float32)
    client = redis.Redis.from_url(settings.redis_url.get_secret_value())
    with psycopg.connect(settings.database_dsn, autocommit=True) as record:
        # An ordinary table: a temporary one would not be written to the log, and the log is what a commit costs.
        record.execute("CREATE TABLE bare (id serial PRIMARY KEY, body text)")
        return {
            "session.run of the model": timed(lambda: session.run(None, {"x": values})),
            "one INSERT, committed": timed(lambda: record.execute("INSERT INTO bare (body) VALUES ('x')")),
            "one LPUSH": timed(lambda: client.lpush("bare", "x")),
        }


def timed(call: Callable[[], object], times: int = 200) -> list[float]:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds


def row(name: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    print(f"{name:32}{1000 * p50:>9.2f}{1000 * p99:>9.2f}")


if __name__ == "__main__":
    main()
