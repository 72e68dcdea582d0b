"""A whole worker process inside the test's own, without Celery: for what happens in the middle of a run."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleet.contracts import Job
from fleet.database import Database
from fleet.jobs import JobStore
from fleet.objects import ObjectStore
from fleet.outbox import Outbox
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job
from worker.contract import Encoded, EncodedFile
from worker.device import prove_device
from worker.process import Process, assemble
from worker.runner import Runner
from worker.stop import StopReason


@dataclass
class Bench:
    """The runner is called as the pool's threads call it."""

    process: Process
    jobs: JobStore
    outbox: Outbox
    objects: ObjectStore
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def runner(self) -> Runner:
        return self.process.runner

    def submit(self, **changes: Any) -> Job:
        return self.jobs.submit(new_job(**changes)).job

    def run(self, job: Job) -> Job:
        self.runner.run(job.id, job.publish_seq)
        return self.jobs.get(job.id)

    def start(self, job: Job) -> threading.Thread:
        thread = threading.Thread(target=self.runner.run, args=(job.id, job.publish_seq))
        thread.start()
        self.threads.append(thread)
        return thread

    def make_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The echo's answer also becomes an artifact, so that there is something to lose."""

        def encode(kind: object, outcome: dict[str, Any], folder: Path) -> Encoded:
            folder.mkdir(exist_ok=True)
            (folder / "mask.bin").write_bytes(b"x" * 1000)
            return Encoded(outcome, [EncodedFile("mask.bin", folder / "mask.bin", "application/octet-stream")])

        monkeypatch.setattr(self.process.codecs, "encode", encode)


@contextmanager
def opened_bench(settings: Settings, scratch: Path, models: Path = Path("models")) -> Iterator[Bench]:
    chosen = settings.model_copy(update={"models_path": models.resolve(), "worker_scratch": scratch, "lease_s": 1.0})
    process = assemble(chosen, prove_device(chosen, 2))
    process.leases.start()
    with Database(settings.database_dsn) as database:
        opened = Bench(process, JobStore(database), Outbox(database), ObjectStore(settings))
        yield opened
        process.leases.stop_all(StopReason.DRAINED)
        for thread in opened.threads:
            thread.join(30)
        process.leases.close()
        process.close()
