"""A GPU that fails under a run: the job goes on elsewhere, and the process ends to prove its device anew."""

from collections.abc import Iterator
from dataclasses import replace

import onnxruntime
import pytest

import worker.process
from fleet.contracts import JobState, Pool
from fleet.errors import NoCapableWorker
from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, Settings
from tests.support.bench import Bench
from worker.device import prove_device
from worker.engine.providers import Providers
from worker.engine.session import Session
from worker.exits import ExitCode
from worker.process import Process, assemble


@pytest.fixture
def failing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The session says that it is on a GPU, and fails as ONNX Runtime does when the GPU has."""
    session = bench.process.registry.load("echo", 1).session

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=a")

    monkeypatch.setattr(Session, "provider", CUDA_PROVIDER)
    monkeypatch.setattr(session, "_run", fail)
    monkeypatch.setattr(session, "_observed", fail)
    return bench


def test_job_goes_back_without_losing_an_attempt_and_the_process_ends(
    failing: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[ExitCode] = []
    monkeypatch.setattr(worker.process, "end_process", ends.append)
    failing.process.end_if_device_is_lost()
    assert ends == []
    job = failing.run(failing.submit(max_attempts=1))
    assert (job.state, job.forgiven, job.losses) == (JobState.QUEUED, 1, 0)
    (note,) = job.history
    assert (note.outcome, note.detail) == ("handed-back", "gpu-lost")
    failing.process.end_if_device_is_lost()
    assert ends == [ExitCode.GPU_LOST]


def test_job_under_which_gpus_keep_failing_loses_its_attempts(failing: Bench) -> None:
    job = failing.submit(max_attempts=1)
    states = [failing.run(failing.jobs.get(job.id)).state for _ in range(3)]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    ended = failing.jobs.get(job.id)
    assert ended.error is not None
    assert ended.error.code == "gpu-lost"


@pytest.fixture
def bereft(settings: Settings) -> Iterator[Process]:
    """Its GPU was there when it was proven, and no session can be made on it any more."""
    found = prove_device(settings, 1)
    using = [CUDA_PROVIDER, CPU_PROVIDER]
    process = assemble(settings, replace(found, pool=Pool.GPU, providers=Providers(using, using, using)))
    yield process
    process.close()


@pytest.mark.skipif(CUDA_PROVIDER in onnxruntime.get_available_providers(), reason="this build may well keep it")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_process_whose_sessions_fall_back_to_the_cpu_proves_its_gpu_anew(
    bereft: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[ExitCode] = []
    monkeypatch.setattr(worker.process, "end_process", ends.append)
    bereft.end_if_device_is_lost()
    assert ends == []
    with pytest.raises(NoCapableWorker, match="made a session that uses CPUExecutionProvider"):
        bereft.registry.load("echo", 1)
    bereft.end_if_device_is_lost()
    assert ends == [ExitCode.GPU_LOST]
