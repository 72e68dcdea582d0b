"""Jobs end up on the device where they belong: a real front door, a simulated GPU and real CPU workers."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.contracts import Job, JobState
from fleet.settings import Settings
from tests.support.fleet_of_one import ROOT
from tests.support.mixed_fleet import GPU_ONLY, MixedFleet, mixed_fleet


@pytest.fixture
def fleet(settings: Settings, tmp_path: Path) -> Iterator[MixedFleet]:
    with mixed_fleet(settings, tmp_path) as opened:
        yield opened


def shares(jobs: list[Job]) -> Counter[str]:
    """Jobs by the worker that ran them; all of them once, and with success."""
    assert {(job.state, job.attempt, job.losses) for job in jobs} == {(JobState.SUCCEEDED, 1, 0)}
    return Counter(job.ran_on.worker for job in jobs if job.ran_on is not None)


def why(job: Job) -> str:
    assert job.ran_on is not None
    return job.ran_on.why


def test_a_trickle_stays_on_the_gpu_and_a_burst_overflows_to_the_cpus(fleet: MixedFleet) -> None:
    fleet.start("gpu-1", gpu=True)
    for name in ("cpu-1", "cpu-2"):
        fleet.start(name)
    trickle = [fleet.ended(fleet.submit())[0] for _ in range(10)]
    assert shares(trickle) == {"gpu-1": 10}
    assert {why(job) for job in trickle} == {"a GPU worker is alive"}
    assert all(job.ran_on and job.ran_on.simulated for job in trickle)

    burst = fleet.ended(*[fleet.submit() for _ in range(150)])
    by_worker = shares(burst)
    assert set(by_worker) == {"gpu-1", "cpu-1", "cpu-2"}
    assert by_worker["gpu-1"] == max(by_worker.values())
    overflowed = [job for job in burst if job.ran_on and job.ran_on.worker != "gpu-1"]
    reason = re.compile(r"gpu wait [\d.]+ (ms|s|min) > cpu [\d.]+ (ms|s|min)|gpu wait was longer, now .+")
    assert all(reason.fullmatch(why(job)) for job in overflowed), {why(job) for job in overflowed}
    assert any(why(job).startswith("gpu wait") and " > cpu " in why(job) for job in overflowed)
    assert not any(job.ran_on and job.ran_on.simulated for job in overflowed)

    fleet.record.wait_until_taking("cpu-1")
    fleet.record.wait_until_taking("cpu-2")
    assert shares([fleet.ended(fleet.submit())[0] for _ in range(5)]) == {"gpu-1": 5}


def test_a_cpu_that_does_not_hold_the_model_leaves_its_jobs_alone(fleet: MixedFleet) -> None:
    fleet.start("gpu-1", gpu=True)
    fleet.start("cpu-1", MODELS_PATH=str(ROOT / "models"))
    burst = fleet.ended(*[fleet.submit() for _ in range(60)])
    assert shares(burst) == {"gpu-1": 60}
    assert not any(job.history for job in burst)


def test_the_cpus_take_everything_while_no_gpu_lives_and_give_it_back(fleet: MixedFleet) -> None:
    gpu = fleet.start("gpu-1", gpu=True)
    fleet.start("cpu-1")
    assert shares(fleet.ended(fleet.submit(), fleet.submit(GPU_ONLY))) == {"gpu-1": 2}

    waiting = [fleet.submit() for _ in range(12)]
    fleet.kill("gpu-1", gpu)
    after = [fleet.submit() for _ in range(3)]
    gpu_only = [fleet.submit(GPU_ONLY) for _ in range(2)]
    orphaned = fleet.ended(*waiting)
    assert {job.state for job in orphaned} == {JobState.SUCCEEDED}
    of_the_dead = [job for job in orphaned if job.losses]
    assert len(of_the_dead) <= 1, "what ran when it died, and nothing else, lost an attempt"
    assert {job.attempt - job.losses for job in orphaned} == {1}
    dead = "no GPU worker of the bulk lane is alive"
    assert orphaned[-1].ran_on is not None
    assert (orphaned[-1].ran_on.worker, orphaned[-1].ran_on.why) == ("cpu-1", dead)
    on_cpu = fleet.ended(*after)
    assert shares(on_cpu) == {"cpu-1": 3}
    assert {why(job) for job in on_cpu} == {dead}
    assert [(job.state, job.attempt) for job in map(fleet.job, gpu_only)] == [(JobState.QUEUED, 0)] * 2

    fleet.start("gpu-2", gpu=True)
    assert shares(fleet.ended(*gpu_only)) == {"gpu-2": 2}
    fleet.record.wait_until_taking("cpu-1")
    assert shares([fleet.ended(fleet.submit())[0] for _ in range(5)]) == {"gpu-2": 5}
