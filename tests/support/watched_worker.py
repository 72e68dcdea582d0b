"""`fleet work` as an operator starts it, and a task for it that does what bad inputs do (see `perilous/`)."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from fleet.job_values import NewJob
from fleet.settings import Settings
from tests.support.fleet_of_one import ROOT, environment_of, new_job
from tests.support.waiting import eventually

PERILOUS = Path(__file__).parent / "perilous"


def perilous_environment(folder: Path) -> dict[str, str]:
    """Settings with which a worker has the task and the model `perilous` beside `echo`."""
    models = folder / "models"
    for name in ("echo", "perilous"):
        shutil.copytree(ROOT / "models" / "echo", models / name, dirs_exist_ok=True)
    (models / "perilous" / "model.yaml").write_text("task: perilous\nlane: interactive\n", "utf-8")
    return {"PYTHONPATH": str(PERILOUS), "MODELS_PATH": str(models)}


def perilous(**params: Any) -> NewJob:
    of_the_job = ("max_attempts", "execution_timeout_s", "deadline_s")
    changes = {name: params.pop(name) for name in of_the_job if name in params}
    return new_job("perilous", "perilous", params=params, **changes)


class WatchedWorker:
    """The watcher is `process`; `pid` is the worker of now, `ready_file` its own, `shared_ready_file` that of all."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, suffix: str) -> None:
        self.process = process
        self.log = folder / "work.log"
        self.shared_ready_file = folder / "ready"
        self.ready_file = folder / f"ready-{suffix}"

    @property
    def pid(self) -> int:
        """Of the worker that takes jobs now. Raises ValueError or OSError while none does."""
        return int(self.ready_file.read_text("ascii"))

    def wait_ready(self, *, other_than: int | None = None) -> int:
        """Until a worker takes jobs; its pid."""

        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text("utf-8")[-3000:]
            return self.pid != other_than and psutil.pid_exists(self.pid)

        eventually(ready, errors=(OSError, ValueError))
        return self.pid


@contextmanager
def watched_worker(settings: Settings, folder: Path, **changes: str) -> Iterator[WatchedWorker]:
    """One process, for the interactive lane. Ready when the block begins; drained at its end."""
    lane = {"WORKER_LANES": "interactive"}
    environment = environment_of(settings, WORKER_READY_FILE=str(folder / "ready"), **(lane | changes))
    with (folder / "work.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "work"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    watched = WatchedWorker(process, folder, "cpu-interactive")
    try:
        watched.wait_ready()
        yield watched
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
