"""A small fleet of both kinds: a real front door, simulated GPUs, CPU workers, and a model for either device policy."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import UUID

from fleet.contracts import Job
from fleet.settings import Settings
from tests.support.fleet_of_one import ROOT, wait_for, worker_process
from tests.support.front_door import Door, front_door
from tests.support.helped_out import Record, record_of
from tests.support.waiting import eventually

#: Seconds of a job on a CPU, and how many times faster the GPU is.
CPU_S, SPEED = 0.4, 8.0
FLEXIBLE, GPU_ONLY = "volume", "volume-gpu-only"
_GPU = {"INFERENCE_DEVICE": "simulated-gpu", "SIMULATED_GPU_SPEED": str(SPEED)}
_MANIFEST = "task: echo\nlane: bulk\nexpected_s: {{cpu: {cpu}, gpu: {gpu}}}\ndevice: {device}\n"


class MixedFleet:
    def __init__(self, door: Door, record: Record, folder: Path, running: ExitStack) -> None:
        self.door = door
        self.record = record
        self._folder = folder
        self._running = running
        self._environment = {"MODELS_PATH": str(_models(folder)), "WORKER_CONCURRENCY": "1", "LEASE_S": "3"}

    def start(self, name: str, *, gpu: bool = False, **changes: str) -> Popen[bytes]:
        """Returns once the fleet counts on it."""
        told = self._environment | {"WORKER_NAME": name} | (_GPU if gpu else {}) | changes
        process = self._running.enter_context(worker_process(self.record.settings, self._folder / name, **told))
        eventually(lambda: self.record.word(name), errors=(KeyError,))
        self._seen_anew()
        return process

    def kill(self, name: str, process: Popen[bytes]) -> None:
        """As when it dies under `fleet work`, which buries it and does not get it to start again."""
        process.kill()
        process.wait()
        self.record.jobs.bury(name, process.pid, "killed by SIGKILL")
        self._seen_anew()

    def submit(self, model: str = FLEXIBLE, **changes: Any) -> UUID:
        request = {"model": model, "params": {"pause_s": CPU_S}, **changes}
        answer = self.door.http.post("/api/v1/jobs", json=request)
        assert answer.status_code == 202, answer.text
        return UUID(answer.json()["id"])

    def job(self, job_id: UUID) -> Job:
        return self.record.jobs.get(job_id)

    def ended(self, *job_ids: UUID) -> list[Job]:
        return [wait_for(self.record.jobs, job_id) for job_id in job_ids]

    def _seen_anew(self) -> None:
        """Until the front door has looked at the fleet as it is, and routes by that."""
        (now,) = self.record.database.run("SELECT clock_timestamp() AS at")

        def seen() -> bool:
            row = self.record.board.read()
            return row is not None and row[0].at > now["at"]

        eventually(seen)


def _models(folder: Path) -> Path:
    models = folder / "models"
    for name, device in ((FLEXIBLE, "prefer-gpu"), (GPU_ONLY, "gpu-only")):
        shutil.copytree(ROOT / "models" / "echo", models / name)
        manifest = _MANIFEST.format(cpu=CPU_S, gpu=CPU_S / SPEED, device=device)
        (models / name / "model.yaml").write_text(manifest, "utf-8")
    return models


@contextmanager
def mixed_fleet(settings: Settings, folder: Path) -> Iterator[MixedFleet]:
    """A front door that leads, without workers yet."""
    with front_door(settings) as door, record_of(settings) as record, ExitStack() as running:
        yield MixedFleet(door, record, folder, running)
