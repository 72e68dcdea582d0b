"""The small scenarios with real processes: front door, Redis, PostgreSQL, a simulated GPU and two CPU workers.

What the simulator says of the same fleet stands beside it. Its one free figure, what a job costs besides its model, is
taken from the real run.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from cli.stack import Stack
from fleet.contracts import Lane, Priority
from fleet.database import Database
from routing_lab.measures import Measures
from routing_lab.policies import Ours
from routing_lab.scenarios import ECHO, Scenario
from routing_lab.work import Job
from routing_lab.world import World

#: What is replayed: a day would last a day.
REPLAYED = ("burst", "trickle", "death")
SPEED = 8
_GPU = {"INFERENCE_DEVICE": "simulated-gpu", "SIMULATED_GPU_SPEED": str(SPEED)}
_CPU = {"INFERENCE_DEVICE": "cpu"}
_CLIENTS = 8
_FOUND = """
SELECT priority, state, attempt, ran_on ->> 'device' AS device, ran_on ->> 'worker' AS worker,
       extract(epoch FROM created_at)::float8 AS created,
       extract(epoch FROM started_at)::float8 AS started, extract(epoch FROM finished_at)::float8 AS finished
  FROM job
"""


@dataclass(frozen=True)
class Replayed:
    real: Measures
    simulated: Measures
    #: Jobs that did not succeed; runs beyond one a job and one for each that died with its worker.
    lost: int
    doubled: int
    cost_s: float
    by_worker: Mapping[str, int]


def replay(scenario: Scenario, seed: int) -> Replayed:
    with tempfile.TemporaryDirectory() as folder:
        models = _models(Path(folder))
        with Stack(Path(folder) / "data", workers=0, models=models, durable=False) as stack:
            rows = _run(scenario, stack, Path(folder))
    return _judged(scenario, rows, seed)


def _models(folder: Path) -> Path:
    model = folder / "models" / ECHO.name
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.onnx").write_bytes(Path("models/echo/1/model.onnx").read_bytes())
    (model / "model.yaml").write_text(f"task: echo\nlane: bulk\ndevice: {ECHO.device.value}\n", "utf-8")
    return folder / "models"


def _run(scenario: Scenario, stack: Stack, folder: Path) -> list[dict[str, Any]]:
    told = {"gpu-1": _GPU, "cpu-1": _CPU, "cpu-2": _CPU}
    workers = {name: _Process(name, {**stack.environment, **own}, folder) for name, own in told.items()}
    try:
        for worker in workers.values():
            worker.start()
        for worker in workers.values():
            worker.wait_ready()
        with Database(stack.settings().database_dsn) as database:
            _until(lambda: bool(database.run("SELECT 1 FROM traffic")), 30.0)
            time.sleep(3.0)  # Three looks of the leader: it knows all of them.
            began = time.monotonic()
            breaker = threading.Thread(target=_break, args=(scenario, workers["gpu-1"], began))
            breaker.start()
            _submit_all(scenario, stack.url, began)
            breaker.join()
            ended = "SELECT count(*) AS jobs FROM job WHERE finished_at IS NULL"
            _until(lambda: database.run(ended)[0]["jobs"] == 0, 300.0)
            return [dict(row) for row in database.run(_FOUND)]
    finally:
        for worker in workers.values():
            worker.stop()


def _submit_all(scenario: Scenario, url: str, began: float) -> None:
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http, ThreadPoolExecutor(_CLIENTS) as clients:

        def submit(job: Job) -> None:
            params = {"pause_s": job.cpu_s}
            body = {"model": ECHO.name, "params": params, "priority": job.asked.name.lower()}
            http.post("/api/v1/jobs", json=body).raise_for_status()

        sent = []
        for job in scenario.trace.jobs():
            time.sleep(max(0.0, began + job.at - time.monotonic()))
            sent.append(clients.submit(submit, job))
        for one in sent:
            one.result()


def _break(scenario: Scenario, gpu: "_Process", began: float) -> None:
    for death in scenario.deaths:
        time.sleep(max(0.0, began + death.at - time.monotonic()))
        gpu.kill()
        time.sleep(max(0.0, began + death.back_at - time.monotonic()))
        gpu.start()


def _judged(scenario: Scenario, rows: list[dict[str, Any]], seed: int) -> Replayed:
    real = Measures(len(scenario.trace))
    first = min(row["created"] for row in rows)
    done = [row for row in rows if row["state"] == "succeeded"]
    by_worker: dict[str, int] = {}
    for row in done:
        job = Job(0, row["created"], ECHO, 0, "", Priority(row["priority"]), 0.0, 0.0)
        real.ended(job, row["started"], row["finished"])
        real.on_cpu += not row["worker"].startswith("gpu")
        by_worker[row["worker"]] = by_worker.get(row["worker"], 0) + 1
    real.makespan_s = max(row["finished"] for row in done) - first
    on_gpu = [row["finished"] - row["started"] for row in done if row["worker"].startswith("gpu")]
    cost_s = max(0.0, statistics.median(on_gpu) - float(np.median(scenario.trace.gpu_s)))
    simulated = World(scenario, Ours(), seed, cost_s).run()
    again = sum(row["attempt"] - 1 for row in rows)
    # A machine that dies takes one run with it at most: it had one slot.
    doubled = max(0, again - len(scenario.deaths)) + len(rows) - len(scenario.trace)
    return Replayed(real, simulated, len(scenario.trace) - len(done), doubled, cost_s, by_worker)


def replay_table(name: str, replayed: Replayed) -> str:
    """Real beside simulated."""
    who = ", ".join(f"{worker} {jobs}" for worker, jobs in sorted(replayed.by_worker.items()))
    kept = f"lost {replayed.lost}, doubled {replayed.doubled}"
    lines = [
        f"{name}, real processes: {replayed.real.jobs} jobs, {kept}; {who}",
        f"  besides its model a job costs {1000 * replayed.cost_s:.0f} ms; waits and stays in s",
        f"  {'':12}{'makespan s':>11}{'on CPU':>8}" + "".join(f"{p.name.lower() + ' p95':>20}" for p in Priority),
    ]
    for label, measures in (("real", replayed.real), ("simulated", replayed.simulated)):
        spreads = [measures.spread(Lane.BULK, priority) for priority in Priority]
        waits = [f"{spread.wait_p95:.2f} / {spread.stay_p95:.2f}" if spread else "-" for spread in spreads]
        lines.append(
            f"  {label:12}{measures.makespan_s:>11.1f}{measures.on_cpu / max(1, measures.flexible):>8.1%}"
            + "".join(f"{wait:>20}" for wait in waits)
        )
    return "\n".join(lines)


class _Process:
    """A worker process, without anybody who would start it again."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path) -> None:
        self._name = name
        self._ready = folder / f"{name}.ready"
        self._log = folder / f"{name}.log"
        own = {"WORKER_NAME": name, "WORKER_LANES": "bulk", "WORKER_CONCURRENCY": "1"}
        scratch = {"WORKER_READY_FILE": str(self._ready), "WORKER_SCRATCH": str(folder / f"{name}.scratch")}
        self._environment = {**os.environ, **environment, **own, **scratch}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "worker"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        try:
            _until(self._ready.exists, 60.0)
        except TimeoutError:
            raise SystemExit(f"{self._name} did not start:\n{self._log.read_text('utf-8')[-2000:]}") from None

    def kill(self) -> None:
        """With all that it has started, as when its machine goes."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(40.0)
        except subprocess.TimeoutExpired:
            self.kill()


def _until(holds: Callable[[], bool], limit_s: float) -> None:
    give_up_at = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not within {limit_s:.0f} s")
        time.sleep(0.1)
