"""What ends a run in time: the deadline counts the wait in the queue, the timeout only the run, a cancel is obeyed."""

import time
from typing import Any

import pytest

from fleet.contracts import JobState
from tests.support.bench import Bench
from worker.engine.session import Session

LONG = {"repeat": 1_000_000}


def test_deadline_counts_the_time_in_the_queue(bench: Bench) -> None:
    job = bench.submit(params=LONG, deadline_s=1.5)
    time.sleep(1.0)
    ended = bench.run(job)
    assert (ended.state, ended.error and ended.error.code) == (JobState.EXPIRED, "deadline-exceeded")
    assert ended.deadline is not None
    assert ended.started_at is not None
    assert ended.finished_at is not None
    assert ended.started_at < ended.deadline <= ended.finished_at


def test_job_past_its_deadline_is_not_begun(bench: Bench) -> None:
    job = bench.submit(deadline_s=0.01)
    time.sleep(0.05)
    assert bench.run(job).attempt == 0


def test_execution_timeout_leaves_the_time_in_the_queue_out(bench: Bench) -> None:
    job = bench.submit(execution_timeout_s=0.5)
    time.sleep(1.0)
    assert bench.run(job).state is JobState.SUCCEEDED


def test_run_past_its_execution_timeout_is_expired_with_what_it_did(bench: Bench) -> None:
    ended = bench.run(bench.submit(params=LONG, execution_timeout_s=0.5))
    assert (ended.state, ended.error and ended.error.code) == (JobState.EXPIRED, "execution-timeout")
    assert ended.timings["infer"] > 0
    assert ended.ran_on is not None


@pytest.mark.parametrize("end", ["cancel", "timeout"])
def test_model_that_was_stopped_in_its_run_stays_loaded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    made, init = [], Session.__init__

    def counted(self: Session, *values: Any, **more: Any) -> None:
        made.append(self)
        init(self, *values, **more)

    monkeypatch.setattr(Session, "__init__", counted)
    job = bench.submit(params=LONG, execution_timeout_s=0.5 if end == "timeout" else 60.0)
    thread = bench.start(job)
    if end == "cancel":
        while bench.jobs.get(job.id).stage != "infer":
            time.sleep(0.02)
        assert bench.jobs.cancel(job.id, "default").state is JobState.RUNNING, "it has not stopped yet"
    thread.join(20)
    assert bench.jobs.get(job.id).state is (JobState.CANCELLED if end == "cancel" else JobState.EXPIRED)
    assert bench.run(bench.submit()).state is JobState.SUCCEEDED
    assert len(made) == 1
