"""Which jobs and uploads may go, and that nobody comes between: the record's side of keeping and deleting."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from fleet.contracts import Callback, JobState
from fleet.errors import NotFound
from fleet.job_values import JobFilter
from fleet.outbox import Outbox
from fleet.settings import Settings
from fleet.sql import statements
from tests.support.fleet_of_one import new_job
from tests.support.sweeping import FATAL, NOTHING, Sweeping, sweeping_of


@pytest.fixture
def scene(settings: Settings) -> Iterator[Sweeping]:
    with sweeping_of(settings) as opened:
        yield opened


@pytest.mark.parametrize("ending", ["succeeded", "failed", "cancelled", "expired"])
def test_an_ended_job_is_due_when_its_own_time_is_over(scene: Sweeping, ending: str) -> None:
    end = getattr(scene, ending)
    short, long = end(retention_s=0.001), end(retention_s=3600.0)
    assert scene.retention.expired(10) == [short.id]
    assert scene.retention.hide([short.id, long.id]) == 1
    with pytest.raises(NotFound):
        scene.jobs.get(short.id, "default")
    assert scene.jobs.get(long.id, "default").id == long.id


def test_a_job_that_has_not_ended_is_never_due(scene: Sweeping) -> None:
    queued, running = scene.submit(retention_s=0.001), scene.claimed(retention_s=0.001).job
    assert scene.retention.expired(10) == []
    assert scene.retention.hide([queued.id, running.id]) == 0


def test_a_retry_between_the_look_and_the_hiding_keeps_the_job(scene: Sweeping) -> None:
    job = scene.failed(retention_s=0.001)
    due = scene.retention.expired(10)
    scene.jobs.retry(job.id, "default")
    assert scene.retention.hide(due) == 0
    assert scene.state(job) is JobState.QUEUED


def test_what_is_hidden_is_not_retried(scene: Sweeping) -> None:
    job = scene.failed(retention_s=0.001)
    assert scene.retention.hide([job.id]) == 1
    with pytest.raises(NotFound):
        scene.jobs.retry(job.id, "default")


def test_a_job_is_kept_while_an_open_job_reads_its_results(scene: Sweeping) -> None:
    source = scene.succeeded("mask.nii.gz", retention_s=0.001)
    queued, running = (scene.submit(source_jobs=[source.id]) for _ in range(2))
    claim = scene.claimed(running)
    assert scene.retention.expired(10) == []
    assert scene.retention.hide([source.id]) == 0
    scene.jobs.cancel(queued.id, "default")
    assert scene.retention.expired(10) == []
    scene.finish(claim, [])
    assert scene.retention.expired(10) == [source.id]
    assert scene.retention.hide([source.id]) == 1


def test_a_deletion_does_not_wait_for_who_reads_the_results(scene: Sweeping) -> None:
    source = scene.succeeded("mask.nii.gz")
    scene.submit(source_jobs=[source.id])
    assert scene.retention.delete(source.id, "default") is not None


def test_a_job_cannot_read_the_results_of_one_that_was_deleted_just_before(scene: Sweeping) -> None:
    source = scene.succeeded("mask.nii.gz")
    scene.delete(source)
    with pytest.raises(NotFound) as refused:
        scene.jobs.submit(new_job(source_jobs=[source.id]))
    assert refused.value.code == "object-not-found"


def test_a_job_may_read_several_results_of_one_job_and_one_upload_twice(scene: Sweeping) -> None:
    source, upload = scene.succeeded("a", "b"), scene.upload()
    job = scene.submit(source_jobs=[source.id, source.id], uploads=[upload, upload])
    assert scene.state(job) is JobState.QUEUED


def test_a_job_is_kept_until_its_webhooks_are_delivered(scene: Sweeping) -> None:
    callback = Callback(url="https://example.org/hook", events=["job.succeeded"])
    job = scene.succeeded(retention_s=0.001, callback=callback)
    assert scene.rows("webhook_delivery") == 1
    assert scene.retention.expired(10) == []
    assert scene.retention.hide([job.id]) == 0
    scene.database.run("update webhook_delivery set state = 'delivered', ended_at = clock_timestamp()")
    assert scene.retention.expired(10) == [job.id]


def test_a_submit_under_way_holds_the_job_whose_results_it_reads(scene: Sweeping, settings: Settings) -> None:
    source = scene.succeeded("mask.nii.gz", retention_s=0.001)
    with psycopg.connect(settings.database_dsn) as submitting:
        submitting.execute("select from job where id = %s for share", [source.id])
        submitting.execute("insert into job_source values (gen_random_uuid(), %s)", [source.id])
        assert scene.retention.hide([source.id]) == 0


def test_deleting_hides_at_once_and_frees_the_key(scene: Sweeping) -> None:
    job = scene.succeeded(idempotency_key="k", fingerprint="f")
    assert scene.jobs.find_by_key("default", "k", "f") is not None
    scene.delete(job)
    assert scene.jobs.find_by_key("default", "k", "f") is None
    assert scene.jobs.page("default", JobFilter(), limit=10) == []
    again = scene.jobs.submit(new_job(idempotency_key="k", fingerprint="another"))
    assert not again.replayed


def test_a_job_is_deleted_once_and_only_by_its_tenant(scene: Sweeping) -> None:
    job = scene.succeeded()
    with pytest.raises(NotFound):
        scene.retention.delete(job.id, "somebody")
    scene.delete(job)
    with pytest.raises(NotFound) as refused:
        scene.delete(job)
    assert refused.value.code == "job-not-found"


def test_deleting_what_is_queued_ends_it(scene: Sweeping) -> None:
    job = scene.submit()
    assert scene.retention.delete(job.id, "default") is not None
    assert scene.state(job) is JobState.CANCELLED
    assert scene.jobs.claim(job.id, "w", 30.0) is None


def end_by_commit(scene: Sweeping, claim: Any) -> None:
    scene.finish(claim, [])


def end_by_failure(scene: Sweeping, claim: Any) -> None:
    assert scene.jobs.fail(claim.job, FATAL, NOTHING)


def end_by_stop(scene: Sweeping, claim: Any) -> None:
    assert scene.jobs.stop(claim.job, JobState.CANCELLED, None, NOTHING)


def end_by_drain(scene: Sweeping, claim: Any) -> None:
    assert scene.jobs.hand_back(claim.job, "drained")


def end_by_loss(scene: Sweeping, claim: Any) -> None:
    scene.database.run("update job set lease_until = clock_timestamp() - interval '1 s' where lease_until is not null")
    assert Outbox(scene.database).lapse_leases()


@pytest.mark.parametrize("end", [end_by_commit, end_by_failure, end_by_stop, end_by_drain, end_by_loss])
def test_a_running_job_that_was_deleted_stays_hidden_however_it_ends(scene: Sweeping, end: Any) -> None:
    claim = scene.claimed()
    assert scene.retention.delete(claim.job.id, "default") is None
    assert scene.jobs.watch([(claim.job.id, 1)])[claim.job.id, 1].cancel_requested
    assert scene.retention.hidden(10) == []
    end(scene, claim)
    assert [job.id for job in scene.retention.hidden(10)] == [claim.job.id]
    with pytest.raises(NotFound):
        scene.jobs.get(claim.job.id, "default")
    assert scene.jobs.claim(claim.job.id, "w2", 30.0) is None


def test_nobody_is_told_of_a_deleted_job(scene: Sweeping) -> None:
    callback = Callback(url="https://example.org/hook", events=["job.started", "job.cancelled"])
    queued, running = scene.submit(callback=callback), scene.claimed(callback=callback)
    assert scene.rows("webhook_delivery") == 1
    scene.delete(queued)
    scene.delete(running.job)
    end_by_stop(scene, running)
    assert scene.rows("webhook_delivery") == 0


def test_hidden_jobs_come_page_by_page(scene: Sweeping) -> None:
    jobs = [scene.cancelled() for _ in range(7)]
    for job in jobs:
        scene.delete(job)
    seen = []
    page = scene.retention.hidden(3)
    while page:
        seen += [job.id for job in page]
        page = scene.retention.hidden(3, page[-1])
    assert seen == [job.id for job in jobs]


def test_what_may_have_left_objects_without_a_word_is_told(scene: Sweeping) -> None:
    plain, silent = scene.succeeded("mask.nii.gz"), scene.failed()
    leftover, twice = scene.failed("mask.nii.gz"), scene.claimed(lease_s=0.0)
    end_by_loss(scene, twice)
    scene.finish(scene.claimed(twice.job), [])
    never = scene.cancelled()
    stopped = scene.claimed()
    end_by_stop(scene, stopped)
    retried = scene.failed("mask.nii.gz")
    scene.jobs.retry(retried.id, "default")
    for job in (plain, silent, leftover, twice.job, never, stopped.job, retried):
        scene.delete(job)
    found = {job.id: (len(job.keys), job.traces) for job in scene.retention.hidden(10)}
    assert found[plain.id] == (1, False)
    assert found[leftover.id] == found[retried.id] == (0, True)
    assert found[silent.id] == (0, False)
    assert found[twice.job.id] == (0, True)
    assert found[never.id] == found[stopped.job.id] == (0, False)


def test_forgetting_takes_every_row_about_a_job_and_no_other(scene: Sweeping) -> None:
    callback = Callback(url="https://example.org/hook", events=["job.succeeded"])
    gone, kept = (
        scene.succeeded(idempotency_key=key, fingerprint="f", callback=callback, uploads=[scene.upload()])
        for key in ("gone", "kept")
    )
    scene.database.run("update webhook_delivery set state = 'delivered', ended_at = clock_timestamp()")
    scene.age(gone)
    assert scene.retention.hide([gone.id]) == 1
    uploads = [upload.id for upload in scene.retention.give_up_inputs([gone.id])]
    assert scene.retention.forget([gone.id], uploads) == 1
    tables = ("job", "job_source", "idempotency", "webhook_delivery", "upload")
    assert [scene.rows(table) for table in tables] == [1] * 5
    assert scene.jobs.get(kept.id, "default").id == kept.id


def test_only_what_is_hidden_and_has_stopped_is_forgotten(scene: Sweeping) -> None:
    shown, running = scene.succeeded(), scene.claimed().job
    scene.delete(running)
    assert scene.retention.forget([shown.id, running.id], []) == 0
    assert scene.is_there(shown)
    assert scene.is_there(running)


INDEXED = {
    "expired_jobs": ({"limit": 500}, "job_expiry"),
    "hidden_jobs": (
        {"limit": 500, "after_at": "-infinity", "after_id": "00000000-0000-0000-0000-000000000000"},
        "job_deleted",
    ),
    "hidden_for": ({}, "job_deleted"),
}


@pytest.mark.parametrize("block", INDEXED)
def test_a_look_for_what_is_due_reads_an_index(scene: Sweeping, block: str) -> None:
    scene.database.run(
        """insert into job (id, tenant, task, model, version, lane, priority, pool, queue, max_attempts,
                            execution_timeout_s, state, finished_at, expires_at)
           select gen_random_uuid(), 'default', 'echo', 'echo', 1, 'bulk', 2, 'cpu', 'cpu.bulk.normal', 3, 60,
                  'succeeded', now(), now() + n * interval '1 second'
             from generate_series(1, 20000) as n"""
    )
    scene.database.run("vacuum analyze job")
    parameters, index = INDEXED[block]
    plan = scene.database.run(f"explain (analyze, costs off) {statements('retention')[block]}", parameters)  # type: ignore[arg-type]
    text = "\n".join(row["QUERY PLAN"] for row in plan)
    assert f"{index} on job" in text, text
    assert "Seq Scan on job" not in text, text
    assert "Rows Removed by Filter" not in text, text
