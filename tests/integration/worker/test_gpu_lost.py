"""A GPU that fails under a run: the job goes on elsewhere, and the process ends to prove its device anew."""

import pytest

import worker.process
from fleet.contracts import JobState
from fleet.settings import CUDA_PROVIDER
from tests.support.bench import Bench
from worker.engine.session import Session
from worker.exits import ExitCode


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
