"""`fleet work`, from outside: what it does when its worker dies, when it is stopped, and when it cannot work at all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fleet.catalogue import Catalogue
from fleet.contracts import JobState, Lane, Pool
from fleet.database import Database
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
        assert (loss.outcome, loss.worker) == ("worker-lost", "killed-worker-cpu-interactive")
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
        assert not worker.shared_ready_file.exists()
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


def run_to_its_end(settings: Settings, folder: Path, *options: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "work", *options],
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
    assert outcome.stderr.count('"gpu-unusable"') == 2, "one for each lane"
    assert "NoGpuExecutionProvider: this build of onnxruntime" in outcome.stderr
    assert outcome.stderr.count('"worker started"') == 2
    with Database(settings.database_dsn) as database:
        assert Catalogue(database).workers() == [], "nothing was announced"


def test_wrong_setting_is_one_line_from_the_watcher(settings: Settings, tmp_path: Path) -> None:
    outcome = run_to_its_end(settings, tmp_path, LEASE_S="soon")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("fleet work: the settings are wrong: LEASE_S")
    assert len(outcome.stderr.splitlines()) == 1


def test_devices_of_both_kinds_have_a_process_for_each_lane_and_jobs_say_which_was_simulated(
    settings: Settings, tmp_path: Path
) -> None:
    options = ["--device", "simulated-gpu,cpu", "--lanes", "interactive,bulk", "--concurrency", "interactive=3,bulk=1"]
    ready = tmp_path / "ready"
    with (tmp_path / "work.log").open("ab") as log:
        work = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "work", *options],
            cwd=tmp_path,
            # Both would choose another device.
            env=environment_of(settings, WORKER_READY_FILE=str(ready), WORKER_NAME="two", INFERENCE_DEVICE="cpu"),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with job_store(settings) as jobs, Database(settings.database_dsn) as database:
            eventually(lambda: int(ready.read_text("ascii")) == work.pid, errors=(OSError, ValueError))
            eventually(lambda: len(Catalogue(database).workers()) == 4)
            rows = {row.word.name: row.word for row in Catalogue(database).workers()}
            assert sorted(rows) == sorted(
                f"two-{device}-{lane}" for device in ("simulated0", "cpu") for lane in ("interactive", "bulk")
            )
            assert {name: row.simulated for name, row in rows.items()} == {name: "simulated" in name for name in rows}
            assert {row.concurrency for row in rows.values() if row.lanes == [Lane.INTERACTIVE]} == {3}
            assert (
                psutil.Process(rows["two-cpu-bulk"].pid).nice() > psutil.Process(rows["two-cpu-interactive"].pid).nice()
            )
            for pool in Pool:
                job = wait_for(jobs, submit(settings, jobs, new_job(pool=pool, params={"pause_s": 0.01})).id)
                assert job.ran_on is not None, job.error
                assert (job.ran_on.pool, job.ran_on.simulated) == (pool, pool is Pool.GPU)
                assert job.ran_on.worker == f"two-{'simulated0' if pool is Pool.GPU else 'cpu'}-interactive"
            # A stranger ends one of them: the file that speaks for all is away until all are back.
            killed = rows["two-cpu-bulk"].pid
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: not ready.exists())
            eventually(lambda: int(ready.read_text("ascii")) == work.pid, errors=(OSError, ValueError))
        work.send_signal(signal.SIGTERM)
        assert work.wait(60) == 0
        assert not any(psutil.pid_exists(row.pid) for row in rows.values())
        assert list(tmp_path.glob("ready*")) == []
    finally:
        if work.poll() is None:
            work.kill()
            work.wait()


@pytest.mark.parametrize(("name", "value"), [("WORKER_NAME", 90 * "a"), ("WORKER_METRICS_PORT", "65535")])
def test_what_no_process_could_be_told_is_said_at_once(
    settings: Settings, tmp_path: Path, name: str, value: str
) -> None:
    outcome = run_to_its_end(settings, tmp_path, "--plan", **{name: value})
    assert outcome.returncode == 2
    assert outcome.stderr.startswith(f"fleet work: the settings are wrong: {name}")


def test_plan_is_told_and_nothing_is_started(settings: Settings, tmp_path: Path) -> None:
    outcome = run_to_its_end(settings, tmp_path, "--plan", "--json", "--pool", "cpu", WORKER_NAME="planned")
    assert outcome.returncode == 0, outcome.stderr
    planned = json.loads(outcome.stdout)
    assert [(one["name"], one["lane"]) for one in planned] == [
        ("planned-cpu-interactive", "interactive"),
        ("planned-cpu-bulk", "bulk"),
    ]
    assert "worker started" not in outcome.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "cuda:9"], "fleet work: --device cuda:9: nvidia-smi shows no such GPU"),
        (["--pool", "gpu", "--device", "cpu"], "fleet work: the settings are wrong: WORKER_POOL=gpu contradicts"),
        (["--lanes", "fast"], "fleet work: the settings are wrong: WORKER_LANES"),
        (["--lanes", ""], "fleet work: no lane is named"),
        (["--concurrency", "many"], "fleet work: --concurrency 'many' must be"),
    ],
)
def test_wrong_option_is_one_line(settings: Settings, tmp_path: Path, options: list[str], said: str) -> None:
    outcome = run_to_its_end(settings, tmp_path, *options)
    assert outcome.returncode == 2
    assert outcome.stderr.startswith(said)
    assert len(outcome.stderr.splitlines()) == 1
