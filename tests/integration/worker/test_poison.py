"""An input that kills its worker ends as `poisoned`, alone and with the evidence; the jobs beside it do not."""

import signal
from pathlib import Path

import pytest

from fleet.contracts import JobState
from fleet.settings import Settings
from tests.support.fleet_of_one import job_store, new_job, submit, wait_for
from tests.support.front_door import front_door
from tests.support.watched_worker import perilous, perilous_environment, watched_worker

NAME = "poisoned-worker-cpu-interactive"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL], ids=lambda number: number.name)
def test_poison_ends_alone_with_the_evidence_and_its_neighbours_succeed(
    settings: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    environment = perilous_environment(tmp_path) | {"WORKER_NAME": "poisoned-worker", "WORKER_CONCURRENCY": "4"}
    with (
        job_store(settings) as jobs,
        front_door(settings, reconcile_every_s=0.2, lease_s=1.0),
        watched_worker(settings, tmp_path, **environment) as worker,
    ):
        first_pid = worker.pid
        poison = submit(settings, jobs, perilous(seconds=0.5, signal=number.value, max_attempts=2))
        innocents = [submit(settings, jobs, perilous(seconds=2.0, max_attempts=2)) for _ in range(3)]
        ended = wait_for(jobs, poison.id, timeout_s=120)
        assert ended.state is JobState.FAILED
        assert ended.error is not None
        assert ended.error.code == "poisoned"
        facts = ended.error.facts
        assert (facts["worker"], facts["attempts"], facts["losses"]) == (NAME, 2, 2)
        assert number.name in facts["how"]
        losses = [note for note in ended.history if note.outcome == "worker-lost"]
        assert [note.attempt for note in losses] == [1, 2]
        assert all(number.name in (note.detail or "") and note.worker == NAME for note in losses)
        for innocent in innocents:
            job = wait_for(jobs, innocent.id, timeout_s=120)
            assert job.state is JobState.SUCCEEDED, job
        assert sum(jobs.get(innocent.id).losses for innocent in innocents) > 0, "nobody was beside it: a vain test"
        assert worker.wait_ready(other_than=first_pid) != first_pid
        assert wait_for(jobs, submit(settings, jobs, new_job()).id).state is JobState.SUCCEEDED
