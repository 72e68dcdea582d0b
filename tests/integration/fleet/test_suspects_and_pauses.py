"""What the record decides after an attempt that failed: whether and when the next one, and whether alone."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.contracts import JobState
from fleet.database import Database
from fleet.errors import CorruptInput, DependencyError, FleetError, ModelError, NoCapableWorker
from fleet.job_values import Claim, Ending
from fleet.jobs import JobStore
from fleet.outbox import Outbox
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job

NOTHING = Ending({}, None)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


def claimed(jobs: JobStore, **changes: Any) -> Claim:
    claim = jobs.claim(jobs.submit(new_job(**changes)).job.id, "w1", 30.0)
    assert claim is not None
    return claim


def lose(jobs: JobStore, database: Database, claim: Claim, how: str = "killed by SIGSEGV") -> None:
    """The worker dies, somebody saw it, and the reconciler draws the conclusion."""
    assert claim.job.id in jobs.bury("w1", os.getpid(), how)
    Outbox(database).lapse_leases()


def test_job_on_its_last_attempt_that_has_lost_workers_is_claimed_only_to_run_alone(
    jobs: JobStore, database: Database
) -> None:
    claim = claimed(jobs, max_attempts=2)
    assert not jobs.runs_alone(claim.job.id), "it is not waiting"
    lose(jobs, database, claim)
    assert jobs.runs_alone(claim.job.id)
    assert jobs.claim(claim.job.id, "w2", 30.0, alone=False) is None
    last = jobs.claim(claim.job.id, "w2", 30.0, alone=True)
    assert last is not None
    assert (last.job.last_attempt, last.job.losses) == (True, 1)


def test_job_with_attempts_left_runs_beside_others_whatever_it_lost(jobs: JobStore, database: Database) -> None:
    claim = claimed(jobs, max_attempts=3)
    lose(jobs, database, claim)
    assert not jobs.runs_alone(claim.job.id)
    assert jobs.claim(claim.job.id, "w2", 30.0, alone=False) is not None


def test_last_attempt_after_failures_of_another_kind_runs_beside_others(jobs: JobStore, database: Database) -> None:
    claim = claimed(jobs, max_attempts=2)
    assert jobs.fail(claim.job, DependencyError("away", code="object-store-unavailable"), NOTHING) is not None
    assert not jobs.runs_alone(claim.job.id)
    assert jobs.claim(claim.job.id, "w2", 30.0, alone=False) is not None


def test_hand_back_brings_nobody_under_suspicion(jobs: JobStore) -> None:
    claim = claimed(jobs, max_attempts=1)
    assert jobs.hand_back(claim.job, "drained") is not None
    assert not jobs.runs_alone(claim.job.id)
    assert jobs.claim(claim.job.id, "w2", 30.0, alone=False) is not None


def test_retry_by_hand_clears_a_job_of_suspicion(jobs: JobStore, database: Database) -> None:
    claim = claimed(jobs, max_attempts=1)
    lose(jobs, database, claim)
    assert jobs.get(claim.job.id).state is JobState.FAILED
    jobs.retry(claim.job.id, "default")
    assert not jobs.runs_alone(claim.job.id)
    assert jobs.claim(claim.job.id, "w2", 30.0, alone=False) is not None


def test_lease_that_is_taken_over_before_the_reconciler_saw_it_counts_as_a_loss(jobs: JobStore) -> None:
    job = jobs.submit(new_job(max_attempts=2)).job
    assert jobs.claim(job.id, "w1", 0.0) is not None
    assert jobs.runs_alone(job.id)
    assert jobs.claim(job.id, "w2", 30.0, alone=False) is None
    taken = jobs.claim(job.id, "w2", 30.0)
    assert taken is not None
    assert taken.job.losses == 1
    assert [(note.attempt, note.worker, note.outcome) for note in taken.job.history] == [(1, "w1", "worker-lost")]


def test_death_of_a_predecessor_with_the_same_name_and_number_is_no_evidence(
    jobs: JobStore, database: Database
) -> None:
    lose(jobs, database, claimed(jobs))
    database.run("update worker_death set at = at - interval '1 hour'")
    claim = claimed(jobs, max_attempts=1)
    database.run("update job set lease_until = clock_timestamp() - interval '1 s' where state = 'running'")
    Outbox(database).lapse_leases()
    error = jobs.get(claim.job.id).error
    assert error is not None
    assert error.facts["how"].startswith("its lease lapsed")


@pytest.mark.parametrize("attempt", [1, 2, 5, 9])
def test_pause_before_a_retry_doubles_with_jitter_up_to_five_minutes(
    jobs: JobStore, database: Database, attempt: int
) -> None:
    pauses = []
    for _ in range(12):
        job = jobs.submit(new_job(max_attempts=10)).job
        database.run("update job set attempt = %(attempt)s where id = %(id)s", {"attempt": attempt - 1, "id": job.id})
        claim = jobs.claim(job.id, "w1", 30.0)
        assert claim is not None
        after = jobs.fail(claim.job, DependencyError("away", code="object-store-unavailable"), NOTHING)
        assert after is not None
        assert after.state is JobState.QUEUED
        (row,) = database.run(
            "select extract(epoch from publish_after - (history -> -1 ->> 'at')::timestamptz)::float8 as s"
            " from job where id = %(id)s",
            {"id": job.id},
        )
        pauses.append(row["s"])
    longest = min(300.0, 2.0**attempt)
    # The two moments are taken a few microseconds apart.
    assert all(longest / 2 - 0.1 <= pause <= longest + 0.1 for pause in pauses), pauses
    assert max(pauses) - min(pauses) > longest / 100, "without jitter all that failed together comes back together"


@pytest.mark.parametrize(
    "error",
    [CorruptInput("damaged"), ModelError("the graph failed"), FleetError("unforeseen")],
    ids=lambda error: type(error).__name__,
)
def test_error_that_would_come_again_ends_the_job_at_its_first_attempt(jobs: JobStore, error: FleetError) -> None:
    after = jobs.fail(claimed(jobs, max_attempts=10).job, error, NOTHING)
    assert after is not None
    assert (after.state, after.attempt) == (JobState.FAILED, 1)
    assert after.error is not None
    assert after.error.retryable is False


@pytest.mark.parametrize("error", [DependencyError("away"), NoCapableWorker("none")], ids=lambda error: error.code)
def test_error_that_may_pass_ends_the_job_when_its_attempts_are_spent(jobs: JobStore, error: FleetError) -> None:
    after = jobs.fail(claimed(jobs, max_attempts=1).job, error, NOTHING)
    assert after is not None
    assert (after.state, after.error and after.error.code) == (JobState.FAILED, error.code)
