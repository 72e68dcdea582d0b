"""The job record under concurrency, lost tokens and lost workers: the invariants that everything else leans on."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from fleet.contracts import Artifact, JobState, ObjectRef, RanOn, ShownState
from fleet.database import Database
from fleet.errors import Conflict, CorruptInput, DependencyError, IdempotencyKeyReused, NotFound
from fleet.ids import new_id
from fleet.job_values import Claim, Ending, JobFilter
from fleet.jobs import JobStore
from fleet.outbox import Outbox
from fleet.settings import Settings
from tests.support.due_jobs import take_due
from tests.support.fleet_of_one import new_job

LEASE_S = 30.0
NOTHING = Ending({}, None)
RETRYABLE = DependencyError("the store was away")
FATAL = CorruptInput("cut short")


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database)


def claimed(jobs: JobStore, lease_s: float = LEASE_S, *, worker: str = "w1", **changes: Any) -> Claim:
    job = jobs.submit(new_job(**changes)).job
    claim = jobs.claim(job.id, worker, lease_s)
    assert claim is not None
    return claim


def finish(jobs: JobStore, claim: Claim, **result: Any) -> Any:
    return jobs.finish(claim.job, result=result, artifacts=[], inputs=[], ending=NOTHING)


def due_now(database: Database) -> None:
    database.run("update job set publish_after = clock_timestamp() where published_at is null")


def test_a_claim_is_given_once(jobs: JobStore) -> None:
    job = jobs.submit(new_job()).job
    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda number: jobs.claim(job.id, f"w{number}", LEASE_S), range(32)))
    (won,) = [claim for claim in claims if claim is not None]
    assert (won.job.state, won.job.attempt) == (JobState.RUNNING, 1)


def test_a_claim_tells_how_long_the_job_waited(jobs: JobStore) -> None:
    job = jobs.submit(new_job()).job
    jobs._database.run("update job set queued_at = queued_at - interval '1 minute'")
    claim = jobs.claim(job.id, "w", LEASE_S)
    assert claim is not None
    assert 60 <= claim.waited_s < 120


def test_an_unknown_job_cannot_be_claimed(jobs: JobStore) -> None:
    assert jobs.claim(new_id(), "w1", LEASE_S) is None


def test_a_finish_keeps_result_artifacts_and_timings(jobs: JobStore) -> None:
    claim = claimed(jobs)
    artifact = Artifact(name="mask.nii.gz", object=ObjectRef(bucket="fleet", key="results/x", size=3))
    ran_on = RanOn(worker="w1", pool="cpu", device="CPU", provider="CPUExecutionProvider")
    done = jobs.finish(
        claim.job,
        result={"b": 1, "a": [None, 2.5]},
        artifacts=[artifact],
        inputs=claim.job.inputs,
        ending=Ending({"infer": 1.25}, ran_on),
    )
    assert done is not None
    assert done == jobs.get(done.id)
    assert (done.state, done.progress, done.stage) == (JobState.SUCCEEDED, 1.0, None)
    assert done.result == {"b": 1, "a": [None, 2.5]}
    assert (done.artifacts, done.timings, done.ran_on) == ([artifact], {"infer": 1.25}, ran_on)
    assert done.finished_at is not None


def test_a_stale_token_writes_nothing(jobs: JobStore) -> None:
    stale = claimed(jobs, lease_s=0.0)
    current = jobs.claim(stale.job.id, "w2", LEASE_S)
    assert current is not None
    assert current.job.attempt == 2
    assert finish(jobs, stale, late=True) is None
    assert jobs.fail(stale.job, FATAL, NOTHING) is None
    assert jobs.stop(stale.job, JobState.CANCELLED, None, NOTHING) is None
    assert jobs.hand_back(stale.job, "drained") is None
    assert jobs.renew([(stale.job.id, stale.job.attempt)], LEASE_S) == {}
    assert jobs.watch([(stale.job.id, stale.job.attempt)]) == {}
    jobs.note_progress([(stale.job.id, stale.job.attempt, "infer", 0.9)])
    assert jobs.get(stale.job.id) == current.job
    assert finish(jobs, current, late=False).result == {"late": False}


def test_of_two_commits_at_once_one_wins(jobs: JobStore) -> None:
    first = claimed(jobs, lease_s=0.0)
    second = jobs.claim(first.job.id, "w2", LEASE_S)
    assert second is not None
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda claim: finish(jobs, claim, attempt=claim.job.attempt), [first, second]))
    assert done[0] is None
    assert done[1] is not None
    assert jobs.get(first.job.id).result == {"attempt": 2}


def test_a_commit_that_is_repeated_because_its_answer_got_lost_is_won_again(jobs: JobStore) -> None:
    claim = claimed(jobs)
    assert finish(jobs, claim, n=1) is not None
    assert finish(jobs, claim, n=2).result == {"n": 1}


def test_an_ended_job_never_changes(jobs: JobStore, outbox: Outbox) -> None:
    claim = claimed(jobs, lease_s=0.0)
    done = jobs.fail(claim.job, FATAL, NOTHING)
    assert done is not None
    assert jobs.claim(done.id, "w2", LEASE_S) is None
    assert finish(jobs, claim) is None
    with pytest.raises(Conflict) as refused:
        jobs.cancel(done.id, "default")
    assert refused.value.code == "job-already-ended"
    assert (outbox.lapse_leases(), outbox.expire_queued(), take_due(outbox)) == ([], [], [])
    assert jobs.get(done.id) == done


def test_a_renewal_keeps_the_lease_and_tells_what_the_record_wants(jobs: JobStore, outbox: Outbox) -> None:
    calm, cancelled, overdue = claimed(jobs, 0.0), claimed(jobs, 0.0), claimed(jobs, 0.0)
    jobs._database.run("update job set deadline = clock_timestamp() where id = %(id)s", {"id": overdue.job.id})
    jobs.cancel(cancelled.job.id, "default")
    held = [(claim.job.id, claim.job.attempt) for claim in (calm, cancelled, overdue)]
    words = jobs.renew(held, LEASE_S)
    assert [(words[token].cancel_requested, words[token].overdue) for token in held] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    assert jobs.watch(held) == words
    assert outbox.lapse_leases() == []


def test_progress_is_shown_while_it_runs(jobs: JobStore) -> None:
    claim = claimed(jobs)
    jobs.note_progress([(claim.job.id, 1, "infer", 0.5)])
    job = jobs.get(claim.job.id)
    assert (job.stage, job.progress) == ("infer", 0.5)


def test_a_retryable_failure_goes_back_to_the_queue_after_a_pause(jobs: JobStore, outbox: Outbox) -> None:
    claim = claimed(jobs)
    jobs.note_progress([(claim.job.id, 1, "infer", 0.5)])
    job = jobs.fail(claim.job, RETRYABLE, NOTHING)
    assert job is not None
    assert (job.state, job.stage, job.progress, job.publish_seq) == (JobState.QUEUED, None, 0.0, 2)
    assert job.error is not None
    assert job.error.retryable
    assert take_due(outbox) == []
    due_now(jobs._database)
    (publication,) = take_due(outbox)
    assert (publication.job_id, publication.seq, publication.queue) == (job.id, 2, job.queue)
    assert take_due(outbox) == []


def test_the_pause_grows_with_the_attempts(jobs: JobStore) -> None:
    pauses = []
    job = jobs.submit(new_job(max_attempts=10)).job
    for _ in range(6):
        claim = jobs.claim(job.id, "w", LEASE_S)
        assert claim is not None
        assert jobs.fail(claim.job, RETRYABLE, NOTHING)
        (row,) = jobs._database.run(
            "select extract(epoch from publish_after - clock_timestamp())::float8 as s from job"
        )
        pauses.append(row["s"])
    for attempt, pause in enumerate(pauses, start=1):
        assert 2**attempt * 0.5 - 1 <= pause <= 2**attempt


def test_attempts_are_bounded(jobs: JobStore) -> None:
    job = jobs.submit(new_job(max_attempts=2)).job
    for state in (JobState.QUEUED, JobState.FAILED):
        claim = jobs.claim(job.id, "w", LEASE_S)
        assert claim is not None
        ended = jobs.fail(claim.job, RETRYABLE, NOTHING)
        assert ended is not None
        assert ended.state is state
    assert jobs.claim(job.id, "w", LEASE_S) is None


def test_a_fatal_failure_ends_the_job_at_once(jobs: JobStore) -> None:
    job = jobs.fail(claimed(jobs).job, FATAL, NOTHING)
    assert job is not None
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error is not None
    assert (job.error.code, job.error.retryable) == ("corrupt-input", False)


def test_a_drained_lease_spends_no_attempt_but_the_token_grows(jobs: JobStore) -> None:
    job = jobs.submit(new_job(max_attempts=1)).job
    for attempt in range(1, 5):
        claim = jobs.claim(job.id, "w", LEASE_S)
        assert claim is not None
        assert claim.job.attempt == attempt
        back = jobs.hand_back(claim.job, "drained")
        assert back is not None
        assert (back.state, back.progress) == (JobState.QUEUED, 0.0)
    claim = jobs.claim(job.id, "w", LEASE_S)
    assert claim is not None
    ended = jobs.fail(claim.job, RETRYABLE, NOTHING)
    assert ended is not None
    assert ended.state is JobState.FAILED


def test_a_lease_that_was_asked_to_cancel_ends_when_it_is_handed_back(jobs: JobStore) -> None:
    claim = claimed(jobs)
    jobs.cancel(claim.job.id, "default")
    back = jobs.hand_back(claim.job, "drained")
    assert back is not None
    assert back.state is JobState.CANCELLED


def test_a_job_that_was_handed_back_with_a_pause_is_published_after_it(jobs: JobStore, outbox: Outbox) -> None:
    claim = claimed(jobs)
    assert jobs.hand_back(claim.job, "drained", pause_s=60.0)
    assert take_due(outbox) == []
    due_now(jobs._database)
    assert [publication.job_id for publication in take_due(outbox)] == [claim.job.id]


def test_cancelling_what_is_queued_ends_it(jobs: JobStore) -> None:
    job = jobs.submit(new_job()).job
    assert jobs.cancel(job.id, "default").state is JobState.CANCELLED
    assert jobs.cancel(job.id, "default").state is JobState.CANCELLED
    assert jobs.claim(job.id, "w", LEASE_S) is None


def test_cancelling_what_runs_waits_for_the_worker(jobs: JobStore) -> None:
    claim = claimed(jobs)
    asked = jobs.cancel(claim.job.id, "default")
    assert (asked.state, asked.shown_state) == (JobState.RUNNING, ShownState.CANCELLING)
    stopped = jobs.stop(claim.job, JobState.CANCELLED, None, NOTHING)
    assert stopped is not None
    assert stopped.shown_state is ShownState.CANCELLED


def test_a_failure_of_a_job_that_was_asked_to_cancel_is_its_cancellation(jobs: JobStore) -> None:
    claim = claimed(jobs)
    jobs.cancel(claim.job.id, "default")
    ended = jobs.fail(claim.job, RETRYABLE, NOTHING)
    assert ended is not None
    assert ended.state is JobState.CANCELLED


def test_a_tenant_cannot_cancel_or_see_the_job_of_another(jobs: JobStore) -> None:
    job = jobs.submit(new_job()).job
    for ask in (jobs.cancel, jobs.get):
        with pytest.raises(NotFound):
            ask(job.id, "somebody")


def test_lapsed_leases_go_back_or_end(jobs: JobStore, outbox: Outbox) -> None:
    again = claimed(jobs, lease_s=0.0)
    jobs.note_progress([(again.job.id, 1, "infer", 0.5)])
    poisoned = claimed(jobs, lease_s=0.0, max_attempts=1)
    cancelled = claimed(jobs, lease_s=0.0)
    jobs.cancel(cancelled.job.id, "default")
    late = claimed(jobs, lease_s=0.0)
    held = claimed(jobs)
    jobs._database.run("update job set deadline = clock_timestamp() where id = %(id)s", {"id": late.job.id})
    outcome = {job.id: (job.state, job.error.code if job.error else None) for job in outbox.lapse_leases()}
    assert outcome == {
        again.job.id: (JobState.QUEUED, None),
        poisoned.job.id: (JobState.FAILED, "poisoned"),
        cancelled.job.id: (JobState.CANCELLED, None),
        late.job.id: (JobState.EXPIRED, "expired"),
    }
    assert jobs.get(again.job.id).progress == 0.0
    assert jobs.get(held.job.id).state is JobState.RUNNING
    assert [publication.job_id for publication in take_due(outbox)] == [again.job.id]


def test_a_lapsed_lease_may_also_be_taken_over_directly(jobs: JobStore) -> None:
    claim = claimed(jobs, lease_s=0.0)
    taken = jobs.claim(claim.job.id, "w2", LEASE_S)
    assert taken is not None
    assert taken.job.attempt == 2


def test_a_worker_that_kills_jobs_is_named(jobs: JobStore, outbox: Outbox) -> None:
    claimed(jobs, lease_s=0.0, max_attempts=1)
    (job,) = outbox.lapse_leases()
    assert job.error is not None
    assert job.error.facts["worker"] == "w1"
    assert job.error.facts["attempts"] == job.error.facts["losses"] == 1
    assert "w1" in job.error.message
    assert [(note.attempt, note.worker, note.outcome) for note in job.history] == [(1, "w1", "worker-lost")]


def test_a_worker_that_was_seen_to_die_loses_its_leases_at_once(jobs: JobStore, outbox: Outbox) -> None:
    mine, other = claimed(jobs, max_attempts=1), claimed(jobs, worker="w2")
    assert jobs.bury("w1", os.getpid(), "killed by signal 11 (SIGSEGV)") == [mine.job.id]
    (job,) = outbox.lapse_leases()
    assert job.id == mine.job.id
    assert job.error is not None
    assert job.error.code == "poisoned"
    assert job.error.facts["how"] == "killed by signal 11 (SIGSEGV)"
    assert jobs.get(other.job.id).state is JobState.RUNNING


def test_a_retry_by_hand_gives_all_attempts_again(jobs: JobStore, outbox: Outbox) -> None:
    claim = claimed(jobs, lease_s=0.0, max_attempts=1)
    (lost,) = outbox.lapse_leases()
    again = jobs.retry(lost.id, "default")
    assert (again.state, again.error, again.retries, again.attempt) == (JobState.QUEUED, None, 1, 1)
    assert [note.outcome for note in again.history] == ["worker-lost", "retried"]
    second = jobs.claim(again.id, "w2", LEASE_S)
    assert second is not None
    assert second.job.attempt == 2
    assert second.job.last_attempt
    # The token of before the retry is as stale as any.
    assert finish(jobs, claim) is None
    assert finish(jobs, second) is not None


def test_only_what_ended_without_success_is_retried(jobs: JobStore) -> None:
    claim = claimed(jobs)
    with pytest.raises(Conflict, match="has not ended"):
        jobs.retry(claim.job.id, "default")
    finish(jobs, claim)
    with pytest.raises(Conflict, match="has succeeded"):
        jobs.retry(claim.job.id, "default")


def test_a_job_past_its_deadline_is_not_started_and_expires(jobs: JobStore, outbox: Outbox) -> None:
    job = jobs.submit(new_job(deadline_s=0.0)).job
    assert jobs.claim(job.id, "w", LEASE_S) is None
    assert [expired.id for expired in outbox.expire_queued()] == [job.id]


def test_a_submit_that_is_repeated_under_its_id_is_one_job(jobs: JobStore) -> None:
    new = new_job()
    assert jobs.submit(new).job == jobs.submit(new).job


def test_a_key_belongs_to_the_first_job_of_its_tenant(jobs: JobStore) -> None:
    first = jobs.submit(new_job(idempotency_key="k", fingerprint="f"))
    again = jobs.submit(new_job(idempotency_key="k", fingerprint="f"))
    other = jobs.submit(new_job(idempotency_key="k", fingerprint="f", tenant="other"))
    assert (first.replayed, again.replayed, other.replayed) == (False, True, False)
    assert again.job.id == first.job.id
    with pytest.raises(IdempotencyKeyReused):
        jobs.submit(new_job(idempotency_key="k", fingerprint="g"))
    assert len(jobs.page("default", JobFilter(), limit=10)) == 1


def test_a_submit_with_a_key_that_is_repeated_under_its_id_is_no_replay(jobs: JobStore) -> None:
    new = new_job(idempotency_key="k", fingerprint="f")
    assert [jobs.submit(new).replayed for _ in range(2)] == [False, False]


def test_what_postgresql_does_not_allow_cannot_be_written(jobs: JobStore, settings: Settings) -> None:
    job = jobs.submit(new_job()).job
    with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
        for wrong in (
            "state = 'running'",
            "state = 'succeeded'",
            "finished_at = now()",
            "progress = 2",
            "priority = 4",
        ):
            with pytest.raises(psycopg.errors.CheckViolation):
                connection.execute(f"update job set {wrong} where id = %s", (job.id,))


def test_a_connection_that_broke_costs_one_silent_repeat(jobs: JobStore, settings: Settings) -> None:
    job = jobs.submit(new_job()).job
    with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    assert jobs.get(job.id) == job


def test_a_database_that_is_away_is_a_dependency_error() -> None:
    with Database("postgresql://fleet@127.0.0.1:1/fleet", wait_s=0.2) as database:
        with pytest.raises(DependencyError) as refused:
            JobStore(database).get(new_id())
    assert refused.value.code == "database-unavailable"
