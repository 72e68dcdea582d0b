"""A new version tried for real, in the house's child process: loaded, compared with what is said of it, warmed, and
asked its example. What it says goes into the report of the import.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from fleet.errors import ModelError
from worker.children import limit_growth
from worker.codecs import Codecs
from worker.engine.arena import share_arena
from worker.engine.checking import answer_example
from worker.engine.declared import faults_of
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.model_version import ModelVersion
from worker.engine.session import SessionSetup
from worker.engine.warming import warm
from worker.media.limits import VolumeLimits
from worker.memory.limit import held_bytes
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks import find_tasks


def read_back(folder: Path) -> dict[str, Any]:
    """Whether the folder can be read as a model. Raises ModelError `manifest-invalid` and its kin."""
    version = _version(folder)
    return {"task": version.task.name, "device": version.manifest.device.value}


def tried(folder: Path, setup: dict[str, Any], most_bytes: int) -> dict[str, Any]:
    """The report. Raises ModelError: `model-unloadable`, `model-mismatch`, `warmup-failed`, `example-failed`."""
    share_arena()
    version = _version(folder)
    made = SessionSetup(**setup)
    if most_bytes:
        limit_growth(most_bytes)
    before = held_bytes(os.getpid())
    began = time.monotonic()
    loaded = LoadedModel.opened(version, made)
    load_s = time.monotonic() - began
    _refuse_mismatch(version, loaded)
    warm_s = _timed(
        lambda: warm(version, {name: graph.run for name, graph in loaded.for_run(StopToken()).graphs.items()})
    )
    report = {
        "provider": loaded.session.provider,
        "load_s": round(load_s, 3),
        "warm_s": round(warm_s, 3),
        "memory_bytes": max(0, held_bytes(os.getpid()) - before),
    }
    if version.manifest.example is not None:
        report["example_s"] = round(_timed(lambda: _answer_example(version, loaded)), 3)
    return report


def _version(folder: Path) -> ModelVersion:
    return read_versions(folder, find_tasks(), every=True)[0]


def _timed(work: Any) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _refuse_mismatch(version: ModelVersion, loaded: LoadedModel) -> None:
    session = loaded.session
    faults = [
        *faults_of(version, session.inputs, session.outputs),
        *version.task.check(loaded.for_run(StopToken())),
    ]
    if faults:
        raise ModelError(
            f"the graph does not fit what is said of it: {'; '.join(faults)}", code="model-mismatch", faults=faults
        )


def _answer_example(version: ModelVersion, loaded: LoadedModel) -> None:
    stop = StopToken()
    with tempfile.TemporaryDirectory(prefix="fleet-example-") as scratch:
        codecs = Codecs(VolumeLimits(), Path(scratch))
        try:
            answer_example(version, loaded.for_run(stop), codecs, JobProgress(stop, Path(scratch)), Path(scratch))
        finally:
            codecs.close()
