"""Every statement is executed twice, as after an answer that got lost with its connection: each takes effect once."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fleet.contracts import JobInput, JobState
from fleet.database import Database, Row
from fleet.errors import Conflict, CorruptInput
from fleet.job_values import Ending
from fleet.jobs import JobStore
from fleet.kept_inputs import described
from fleet.objects import ObjectStore
from fleet.parts import PartStore
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job

NOTHING = Ending({}, None)


class Repeating(Database):
    def run(self, statement: str, parameters: Mapping[str, Any] | None = None, *, binary: bool = False) -> list[Row]:
        super().run(statement, parameters, binary=binary)
        return super().run(statement, parameters, binary=binary)


@pytest.fixture
def jobs(settings: Settings) -> Iterator[JobStore]:
    with Repeating(settings.database_dsn) as opened:
        yield JobStore(opened)


def test_a_retry_by_hand_that_is_repeated_is_one_retry(jobs: JobStore) -> None:
    job = jobs.submit(new_job()).job
    jobs.cancel(job.id, "default")
    again = jobs.retry(job.id, "default")
    assert (again.state, again.retries, len(again.history)) == (JobState.QUEUED, 1, 1)
    with pytest.raises(Conflict) as refused:
        jobs.retry(job.id, "default")
    assert refused.value.code == "job-not-ended"


def test_a_success_that_is_told_twice_is_the_success_of_a_job_with_inputs_beside_it(jobs: JobStore) -> None:
    inputs = [JobInput(kept=described(b"abc", None, "image/png"))]
    job = jobs.submit(new_job(inputs=inputs, kept={0: b"abc"})).job
    claim = jobs.claim(job.id, "w", 30.0)
    assert claim is not None
    ended = jobs.finish(claim.job, result={"a": 1}, artifacts=[], inputs=inputs, ending=NOTHING)
    assert ended is not None
    assert (ended.state, ended.result, ended.inputs) == (JobState.SUCCEEDED, {"a": 1}, inputs)


def test_a_run_whose_statements_are_repeated_is_one_attempt(jobs: JobStore) -> None:
    submitted = jobs.submit(new_job(idempotency_key="k", fingerprint="f"))
    assert not submitted.replayed
    claim = jobs.claim(submitted.job.id, "w", 30.0, submitted.job.publish_seq)
    assert claim is not None
    assert (claim.job.attempt, claim.job.revision, claim.job.losses) == (1, 1, 0)
    done = jobs.finish(claim.job, result={"n": 1}, artifacts=[], inputs=[], ending=NOTHING)
    assert done is not None
    assert (done.state, done.revision) == (JobState.SUCCEEDED, 2)


def test_a_part_whose_statements_are_repeated_is_kept_and_removed_once(settings: Settings, jobs: JobStore) -> None:
    parts = PartStore(jobs._database, ObjectStore(settings))
    claim = jobs.claim(jobs.submit(new_job()).job.id, "w", 30.0)
    assert claim is not None
    assert parts.keep(claim.job, "a" * 64, "one", b"first")
    assert set(parts.kept(claim.job.id, "a" * 64)) == {"one"}
    jobs.stop(claim.job, JobState.CANCELLED, None, NOTHING)
    (needless,) = parts.needless(10)
    assert parts.remove(needless) == 1
    assert parts.needless(10) == []


def test_a_failure_that_is_repeated_spends_one_attempt(jobs: JobStore) -> None:
    claim = jobs.claim(jobs.submit(new_job()).job.id, "w", 30.0)
    assert claim is not None
    jobs.fail(claim.job, CorruptInput("cut short"), NOTHING)
    job = jobs.get(claim.job.id)
    assert (job.state, job.attempt, len(job.history)) == (JobState.FAILED, 1, 1)
