"""Jobs put straight into the record, and one worker process for them: in this process, or as `python -m worker`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from fleet.broker import Broker
from fleet.contracts import Job, Lane, Pool, Priority
from fleet.database import Database
from fleet.ids import new_id
from fleet.job_values import NewJob
from fleet.jobs import JobStore
from fleet.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def new_job(model: str = "echo", task: str = "echo", **changes: Any) -> NewJob:
    values: dict[str, Any] = {
        "id": new_id(),
        "tenant": "default",
        "task": task,
        "model": model,
        "version": 1,
        "lane": Lane.INTERACTIVE,
        "priority": Priority.NORMAL,
        "pool": Pool.CPU,
        "route_reason": "no GPU worker is alive",
        "params": {},
        "inputs": [],
        "labels": {},
        "max_attempts": 3,
        "deadline_s": 300.0,
        "execution_timeout_s": 120.0,
        "retention_s": 604800.0,
        "uploads": [],
    }
    return NewJob(**(values | changes))


def submit(settings: Settings, jobs: JobStore, new: NewJob) -> Job:
    """As the api does: the record first, the doorbell after."""
    job = jobs.submit(new).job
    broker = Broker(settings.redis_url.get_secret_value())
    broker.publish(job.id, job.publish_seq, job.queue)
    broker.close()
    return job


def wait_for(jobs: JobStore, job_id: UUID, *states: str, timeout_s: float = 60.0) -> Job:
    """The job once it is in one of the states, by default once it has ended."""
    give_up = time.monotonic() + timeout_s
    while True:
        job = jobs.get(job_id)
        if job.state.value in states or (not states and job.state.ended):
            return job
        if time.monotonic() > give_up:
            raise AssertionError(f"job {job_id} is still {job.state.value} after {timeout_s} s: {job}")
        time.sleep(0.02)


def environment_of(settings: Settings, **changes: str) -> dict[str, str]:
    """The environment that gives a child process these settings."""
    chosen = {
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "DATABASE_URL": settings.database_dsn,
        "MINIO_ENDPOINT": settings.minio_endpoint,
        "MINIO_ACCESS_KEY": settings.minio_access_key,
        "MINIO_SECRET_KEY": settings.minio_secret_key.get_secret_value(),
        "MINIO_BUCKET": settings.minio_bucket,
        "MODELS_PATH": str(ROOT / "models"),
        "ENVIRONMENT": "test",
        "LOG_FORMAT": "json",
    }
    return {**os.environ, **chosen, **changes}


@contextmanager
def worker_process(
    settings: Settings, folder: Path, *, module: str = "worker", **changes: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A real worker, ready to take messages; its log is `worker.log` in the folder. Drained at the end."""
    folder.mkdir(exist_ok=True)
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=folder,
            env=environment_of(settings, WORKER_READY_FILE=str(ready), **changes),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            give_up = time.monotonic() + 60
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > give_up:
                    raise AssertionError(f"the worker did not start:\n{(folder / 'worker.log').read_text()[-3000:]}")
                time.sleep(0.05)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def job_store(settings: Settings) -> Iterator[JobStore]:
    with Database(settings.database_dsn) as database:
        yield JobStore(database)
