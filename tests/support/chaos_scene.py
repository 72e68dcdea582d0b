"""A whole fleet with short leases, a caller in front of it and the witness behind it: the stage of the chaos tests."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from fleet.contracts import Job, JobState
from fleet.jobs import JobStore
from fleet.settings import Settings
from tests.support import witness
from tests.support.fleet_of_one import ROOT, job_store, wait_for
from tests.support.threshold_model import MODEL, make_models, nrrd_of, random_volume
from tests.support.waiting import eventually
from tests.support.whole_fleet import FleetProcess, WholeFleet, whole_fleet

#: Of the model `echo`: a run of a second or more, long enough to break something in the middle of it.
SECONDS = {"repeat": 400_000}


class Scene:
    """`http` speaks to the api's process; `jobs` is the record, past all proxies."""

    def __init__(self, fleet: WholeFleet, http: httpx.Client, jobs: JobStore) -> None:
        self.fleet = fleet
        self.http = http
        self.jobs = jobs

    @property
    def worker(self) -> FleetProcess:
        return self.fleet.workers[0]

    def post(self, key: str | None = None, **body: Any) -> httpx.Response:
        """Submits a job of the model `echo`, unless the body says otherwise."""
        headers = {"idempotency-key": key} if key is not None else {}
        return self.http.post("/api/v1/jobs", json={"model": "echo", **body}, headers=headers)

    def submit(self, **body: Any) -> UUID:
        answer = self.post(**body)
        assert answer.status_code == 202, answer.text
        return UUID(answer.json()["id"])

    def submit_mask(self, seed: int = 1) -> UUID:
        """A job that stores an artifact; its small volume travels within the request."""
        data = base64.b64encode(nrrd_of(random_volume(seed, 16))).decode()
        return self.submit(model=MODEL, inputs=[{"data": data, "name": "volume.nrrd"}])

    @contextmanager
    def held_job(self) -> Iterator[UUID]:
        """A job that runs, and whose worker cannot end it before the block is left: its result does not get stored."""
        held = [worker for worker in self.fleet.workers if not worker.ended]
        for worker in held:
            worker.links.objects.swallow()
        job_id = self.submit_mask()
        self.running(job_id, "store")
        yield job_id
        for worker in held:
            worker.links.objects.release()

    def running(self, job_id: UUID, stage: str | None = None) -> Job:
        """The job once it runs, in that stage where one is named."""
        job = wait_for(self.jobs, job_id, "running")
        if stage is not None:
            eventually(lambda: self.jobs.get(job_id).stage == stage)
        return job

    def succeeded(self, *job_ids: UUID) -> list[Job]:
        """The jobs when all have ended: each with success, and each once."""
        jobs = [wait_for(self.jobs, job_id, timeout_s=120.0) for job_id in job_ids]
        assert [(job.state, job.error) for job in jobs] == [(JobState.SUCCEEDED, None)] * len(jobs)
        story = witness.changes(self.fleet.settings.database_dsn)
        endings = witness.endings(story)
        assert [endings[job_id] for job_id in job_ids] == [1] * len(jobs)
        assert witness.changed_after_end(story) == []
        return jobs


@contextmanager
def chaos_scene(
    settings: Settings, folder: Path, *, workers: int = 1, started: int | None = None, **environment: str
) -> Iterator[Scene]:
    """Leases of two seconds, looked after twice a second; one job at a time in each worker."""
    models = folder / "models"
    shutil.copytree(ROOT / "models" / "echo", models / "echo")
    make_models(models)
    quick = {
        "MODELS_PATH": str(models),
        "LEASE_S": "2",
        "RECONCILE_EVERY_S": "0.5",
        "WORKER_DRAIN_S": "0.5",
        "WORKER_CONCURRENCY": "1",
        "WORKER_SCRATCH": str(folder / "scratch"),
        # Celery writes down what it could not give back before it ends.
        "TMPDIR": str(folder),
    }
    witness.install(settings.database_dsn)
    with (
        whole_fleet(settings, folder / "fleet", quick | environment, workers=workers, started=started) as fleet,
        httpx.Client(base_url=fleet.url, timeout=30, trust_env=False) as http,
        job_store(settings) as jobs,
    ):
        yield Scene(fleet, http, jobs)
