"""`fleet work`, from outside: what it does when its worker dies, when it is stopped, and when it cannot work at all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fleet.contracts import JobState
from fleet.settings import Settings
from tests.support.fleet_of_one import environment_of, job_store, new_job, submit, wait_for
from tests.support.front_door import front_door
from tests.support.waiting import eventually
from tests.support.watched_worker import perilous, perilous_environment, watched_worker

LONG = {"repeat": 1_000_000}


def test_killed_worker_is_started_again_and_its_job_runs_again_at_once(settings: Settings, tmp_path: Path) -> None:
    environment = perilous_environment(tmp_path) | {"WORKER_NAME": "killed-worker", "LEASE_S": "600"}
    with (
        job_store(settings) as jobs,
        front_door(settings, reconcile_every_s=0.2, lease_s=1.0),
        watched_worker(settings, tmp_path, **environment) as worker,
    ):
        job = submit(settings, jobs, perilous(seconds=4.0))
        wait_for(jobs, job.id, "running")
        first = worker.pid
        os.kill(first, signal.SIGKILL)
        # The lease would have lasted for ten minutes.
        ended = wait_for(jobs, job.id, timeout_s=120)
        assert ended.state is JobState.SUCCEEDED
        assert ended.attempt == 2
        (loss,) = ended.history
        assert (loss.outcome, loss.worker) == ("worker-lost", "killed-worker")
        assert (loss.detail or "").startswith("killed by SIGKILL")
        assert worker.pid != first
        assert ended.result == {"pid": worker.pid}
        watcher, watched = (psutil.Process(pid).memory_info().rss for pid in (worker.process.pid, worker.pid))
        assert watcher < watched / 4


def test_sigterm_to_the_watcher_drains_the_worker_and_both_are_gone(settings: Settings, tmp_path: Path) -> None:
    with job_store(settings) as jobs, watched_worker(settings, tmp_path, WORKER_DRAIN_S="0.5") as worker:
        job = submit(settings, jobs, new_job(params=LONG, max_attempts=1))
        wait_for(jobs, job.id, "running")
        pid = worker.pid
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(60) == 0
        assert not psutil.pid_exists(pid)
        assert not worker.ready_file.exists()
        handed_back = jobs.get(job.id)
        assert (handed_back.state, handed_back.forgiven, handed_back.losses) == (JobState.QUEUED, 1, 0)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_second_signal_ends_a_drain_at_once_and_still_hands_the_job_back(
    settings: Settings, tmp_path: Path, second: signal.Signals
) -> None:
    with job_store(settings) as jobs, watched_worker(settings, tmp_path, WORKER_DRAIN_S="3600") as worker:
        job = submit(settings, jobs, new_job(params=LONG, max_attempts=1))
        wait_for(jobs, job.id, "running")
        worker.process.send_signal(signal.SIGTERM)
        eventually(lambda: worker.ready_file.read_text("ascii") == "draining")
        time.sleep(0.5)
        assert jobs.get(job.id).state is JobState.RUNNING, "the first one lets it run on"
        worker.process.send_signal(second)
        assert worker.process.wait(60) == 0
        assert (jobs.get(job.id).state, jobs.get(job.id).forgiven) == (JobState.QUEUED, 1)


def test_worker_ends_with_its_watcher(settings: Settings, tmp_path: Path) -> None:
    with job_store(settings) as jobs, watched_worker(settings, tmp_path, WORKER_DRAIN_S="0.5") as worker:
        job = submit(settings, jobs, new_job(params=LONG))
        wait_for(jobs, job.id, "running")
        pid = worker.pid
        worker.process.kill()
        eventually(lambda: not psutil.pid_exists(pid))
        assert jobs.get(job.id).state is JobState.QUEUED


def test_run_that_is_deaf_is_handed_back_without_it_when_the_worker_drains(settings: Settings, tmp_path: Path) -> None:
    environment = perilous_environment(tmp_path) | {"WORKER_DRAIN_S": "0"}
    with job_store(settings) as jobs, watched_worker(settings, tmp_path, **environment) as worker:
        job = submit(settings, jobs, perilous(seconds=600.0, deaf=True, max_attempts=1))
        wait_for(jobs, job.id, "running")
        worker.process.send_signal(signal.SIGTERM)
        handed_back = wait_for(jobs, job.id, "queued")
        assert (handed_back.forgiven, handed_back.history[0].detail) == (1, "drained")
        assert worker.process.wait(60) == 70


def run_to_its_end(settings: Settings, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "work"],
        cwd=folder,
        env=environment_of(settings, **changes),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_broken_promise_ends_the_watcher_too(settings: Settings, tmp_path: Path) -> None:
    outcome = run_to_its_end(settings, tmp_path, WORKER_POOL="gpu", ONNX_PROVIDERS='["NoGpuExecutionProvider"]')
    assert outcome.returncode == 2, outcome.stderr[-2000:]
    assert "gpu-unusable" in outcome.stderr
    assert outcome.stderr.count('"worker started"') == 1


def test_wrong_setting_is_one_line_from_the_watcher(settings: Settings, tmp_path: Path) -> None:
    outcome = run_to_its_end(settings, tmp_path, LEASE_S="soon")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("fleet work: the settings are wrong: LEASE_S")
    assert len(outcome.stderr.splitlines()) == 1
