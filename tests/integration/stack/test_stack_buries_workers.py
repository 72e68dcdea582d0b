"""`fleet up` sees its workers die: their jobs run again at once, and the record says how the process ended."""

import os
import signal
from pathlib import Path
from uuid import UUID

import httpx

from cli.stack import Stack
from tests.support.clone import ROOT
from tests.support.fleet_of_one import job_store
from tests.support.waiting import eventually


def test_job_of_a_killed_worker_runs_again_and_says_how_the_worker_ended(tmp_path: Path) -> None:
    with (
        Stack(tmp_path / "data", workers=1, port=0, models=ROOT / "models", environment={"LEASE_S": "10"}) as stack,
        job_store(stack.settings()) as jobs,
        httpx.Client(base_url=stack.url, timeout=30, trust_env=False) as http,
    ):
        assert {name for name in stack.pids if "worker" in name} == {"worker-1-interactive", "worker-1-bulk"}
        body = {"model": "echo", "params": {"repeat": 1_000_000}}
        job_id = UUID(http.post("/api/v1/jobs", json=body).raise_for_status().json()["id"])

        def runs(attempt: int) -> bool:
            stack.tick()
            job = jobs.get(job_id)
            return job.state.value == "running" and job.attempt == attempt

        eventually(lambda: runs(1))
        os.kill(stack.pids["worker-1-interactive"], signal.SIGKILL)
        eventually(lambda: runs(2))
        (loss,) = jobs.get(job_id).history
        assert (loss.outcome, loss.attempt) == ("worker-lost", 1)
        assert (loss.detail or "").startswith("killed by SIGKILL")
        http.post(f"/api/v1/jobs/{job_id}/cancel")
