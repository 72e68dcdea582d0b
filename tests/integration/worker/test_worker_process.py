"""A real worker on real servers: takes, runs, stops, drains, refuses what it must."""

import base64
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet.broker import Broker
from fleet.catalogue import Catalogue
from fleet.contracts import InlineInput, JobInput, JobState, Lane, Pool, Priority
from fleet.database import Database
from fleet.objects import ObjectStore, upload_key
from fleet.queues import queues
from fleet.settings import Settings
from tests.support.fleet_of_one import environment_of, job_store, new_job, submit, wait_for, worker_process

LONG = {"repeat": 1_000_000}


def test_worker_takes_a_job_and_records_where_it_ran(settings: Settings, tmp_path: Path) -> None:
    with worker_process(settings, tmp_path, WORKER_NAME="unit-1"), job_store(settings) as jobs:
        job = wait_for(jobs, submit(settings, jobs, new_job(params={"values": [1.5, 2.0]})).id)
        assert job.state is JobState.SUCCEEDED, job.error
        assert job.result == {"values": [1.5, 2.0]}
        assert job.attempt == 1
        assert job.progress == 1.0
        assert job.ran_on is not None
        assert (job.ran_on.worker, job.ran_on.provider) == ("unit-1", "CPUExecutionProvider")
        assert {"queue", "load", "infer"} <= set(job.timings)


def test_worker_announces_itself_and_its_models_and_withdraws(settings: Settings, tmp_path: Path) -> None:
    with Database(settings.database_dsn) as database:
        catalogue = Catalogue(database)
        with worker_process(settings, tmp_path, WORKER_NAME="unit-2"):
            give_up = time.monotonic() + 10
            while not catalogue.workers() and time.monotonic() < give_up:
                time.sleep(0.05)
            (worker,) = catalogue.workers()
            assert worker.word.name == "unit-2"
            assert "echo/1" in worker.word.models
            assert catalogue.get("echo").ready_workers == 1
            assert catalogue.get("brain-extraction").card.task == "segmentation"
        assert catalogue.workers() == []


def test_duplicate_message_runs_the_job_once(settings: Settings, tmp_path: Path) -> None:
    with worker_process(settings, tmp_path), job_store(settings) as jobs:
        job = submit(settings, jobs, new_job())
        broker = Broker(settings.redis_url.get_secret_value())
        for seq in range(5):
            broker.publish(job.id, seq, job.queue)
        ended = wait_for(jobs, job.id)
        last = wait_for(jobs, submit(settings, jobs, new_job()).id)
        assert last.state is JobState.SUCCEEDED
        assert jobs.get(job.id).attempt == 1 == ended.attempt
        broker.close()


def test_running_job_is_cancelled_and_the_same_process_serves_the_next(settings: Settings, tmp_path: Path) -> None:
    with worker_process(settings, tmp_path) as process, job_store(settings) as jobs:
        job = submit(settings, jobs, new_job(params=LONG))
        wait_for(jobs, job.id, "running")
        time.sleep(0.3)
        assert jobs.cancel(job.id, "default").shown_state.value == "cancelling"
        ended = wait_for(jobs, job.id, timeout_s=10)
        assert ended.state is JobState.CANCELLED
        assert wait_for(jobs, submit(settings, jobs, new_job()).id).state is JobState.SUCCEEDED
        assert process.poll() is None
        assert (tmp_path / "worker.log").read_text().count("model loaded") == 1


def test_cancelled_while_queued_is_never_started(settings: Settings, tmp_path: Path) -> None:
    with job_store(settings) as jobs:
        job = submit(settings, jobs, new_job())
        assert jobs.cancel(job.id, "default").state is JobState.CANCELLED
        with worker_process(settings, tmp_path):
            assert wait_for(jobs, submit(settings, jobs, new_job()).id).state is JobState.SUCCEEDED
        assert jobs.get(job.id).attempt == 0


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"execution_timeout_s": 1.0}, "execution-timeout"), ({"deadline_s": 1.5}, "deadline-exceeded")],
)
def test_run_past_its_time_is_expired(settings: Settings, tmp_path: Path, limits: dict[str, float], code: str) -> None:
    with worker_process(settings, tmp_path), job_store(settings) as jobs:
        ended = wait_for(jobs, submit(settings, jobs, new_job(params=LONG, **limits)).id, timeout_s=20)
        assert ended.state is JobState.EXPIRED
        assert ended.error is not None
        assert ended.error.code == code


def test_sigterm_hands_the_job_back_without_spending_the_attempt(settings: Settings, tmp_path: Path) -> None:
    with job_store(settings) as jobs:
        with worker_process(settings, tmp_path, WORKER_DRAIN_S="0.5") as process:
            job = submit(settings, jobs, new_job(params=LONG, max_attempts=1))
            wait_for(jobs, job.id, "running")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        handed_back = jobs.get(job.id)
        assert handed_back.state is JobState.QUEUED
        assert handed_back.attempt == 1
        assert jobs.claim(job.id, "another", 30.0) is not None, "the only attempt is still there to be taken"


def test_killed_worker_loses_its_lease_and_another_takes_the_job(settings: Settings, tmp_path: Path) -> None:
    with job_store(settings) as jobs:
        with worker_process(settings, tmp_path, LEASE_S="1") as process:
            job = submit(settings, jobs, new_job(params=LONG))
            wait_for(jobs, job.id, "running")
            process.kill()
            process.wait()
        time.sleep(1.2)
        claim = jobs.claim(job.id, "another", 30.0)
        assert claim is not None
        assert claim.job.attempt == 2


def test_urgent_starts_before_what_waited_longer(settings: Settings, tmp_path: Path) -> None:
    with job_store(settings) as jobs:
        low = [submit(settings, jobs, new_job(priority=Priority.LOW)) for _ in range(20)]
        urgent = submit(settings, jobs, new_job(priority=Priority.URGENT))
        with worker_process(settings, tmp_path, WORKER_CONCURRENCY="1"):
            started = wait_for(jobs, urgent.id).started_at
            assert started is not None
            for job in low:
                later = wait_for(jobs, job.id).started_at
                assert later is not None
                assert later >= started


def test_waiting_messages_stay_in_redis_where_the_urgent_can_overtake_them(settings: Settings, tmp_path: Path) -> None:
    with worker_process(settings, tmp_path, WORKER_CONCURRENCY="1"), job_store(settings) as jobs:
        running = submit(settings, jobs, new_job(params=LONG))
        wait_for(jobs, running.id, "running")
        for _ in range(10):
            submit(settings, jobs, new_job())
        time.sleep(0.5)
        broker = Broker(settings.redis_url.get_secret_value())
        depths = broker.depths(queues([Pool.CPU], [Lane.INTERACTIVE]))
        broker.close()
        assert sum(depths.values()) >= 9
        jobs.cancel(running.id, "default")


def test_bad_volume_fails_the_job_with_a_stable_code_and_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    rubbish = InlineInput(data=base64.b64encode(b"this is no volume").decode(), name="scan.nii.gz")
    new = new_job("brain-extraction", "segmentation", lane=Lane.BULK, inputs=[JobInput(inline=rubbish)])
    with worker_process(settings, tmp_path, WORKER_SCRATCH=str(tmp_path / "scratch")), job_store(settings) as jobs:
        ended = wait_for(jobs, submit(settings, jobs, new).id)
        assert ended.state is JobState.FAILED
        assert ended.error is not None
        assert ended.error.code == "not-a-volume"
        assert ended.attempt == 1, "what is wrong with the input is not tried again"
        assert ObjectStore(settings).keys(f"results/{ended.id}/") == []
        give_up = time.monotonic() + 5
        while list((tmp_path / "scratch").glob("**/fleet-job-*")) and time.monotonic() < give_up:
            time.sleep(0.05)
        assert list((tmp_path / "scratch").glob("**/fleet-job-*")) == []


def test_object_whose_bytes_changed_is_refused(settings: Settings, tmp_path: Path) -> None:
    objects = ObjectStore(settings)
    new = new_job("brain-extraction", "segmentation", lane=Lane.BULK, max_attempts=1)
    key = upload_key("default", new.id, "scan.nii.gz")
    stored = objects.put_bytes(key, b"a" * 1000, media_type="application/octet-stream", name="scan.nii.gz")
    objects.put_bytes(key, b"b" * 1000, media_type="application/octet-stream", name="scan.nii.gz")
    new.inputs.append(JobInput(object=stored))
    with worker_process(settings, tmp_path), job_store(settings) as jobs:
        ended = wait_for(jobs, submit(settings, jobs, new).id)
        assert ended.error is not None
        assert ended.error.code == "checksum-mismatch"


def test_message_for_a_job_that_does_not_exist_does_nothing(settings: Settings, tmp_path: Path) -> None:
    with worker_process(settings, tmp_path) as process, job_store(settings) as jobs:
        broker = Broker(settings.redis_url.get_secret_value())
        broker.publish(new_job().id, 1, "cpu.interactive.urgent")
        broker.close()
        assert wait_for(jobs, submit(settings, jobs, new_job()).id).state is JobState.SUCCEEDED
        assert process.poll() is None


def test_promised_gpu_that_does_not_work_stops_the_worker_with_the_reason(settings: Settings, tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=tmp_path,
        env=environment_of(settings, WORKER_POOL="gpu", ONNX_PROVIDERS='["NoGpuExecutionProvider"]'),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome.returncode == 2, outcome.stderr[-2000:]
    assert "gpu-unusable" in outcome.stderr
    assert "NoGpuExecutionProvider" in outcome.stderr


def test_wrong_setting_is_one_line_that_names_it(settings: Settings, tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=tmp_path,
        env=environment_of(settings, LEASE_S="soon"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("fleet work: the settings are wrong: LEASE_S")
    assert len(outcome.stderr.splitlines()) == 1


def test_celery_command_starts_the_same_worker(settings: Settings, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--concurrency", "1"],
        cwd=tmp_path,
        env=environment_of(settings, WORKER_READY_FILE=str(ready)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with job_store(settings) as jobs:
            ended = wait_for(jobs, submit(settings, jobs, new_job()).id)
            assert ended.state is JobState.SUCCEEDED
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert not ready.exists()
