"""Deleting, retrying and keeping jobs with the client, against the real front door, record and object store."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from fleet.contracts import JobState
from fleet.errors import CorruptInput
from fleet.job_values import Ending
from fleet.settings import Settings
from fleet_client import Client, Conflict, Job, NotFound
from tests.support.front_door import Door, card, front_door


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    with front_door(settings) as running:
        running.announce(card())
        yield running


@pytest.fixture
def fleet(door: Door) -> Iterator[Client]:
    with Client(door.url) as client:
        yield client


def failed(door: Door, job: Job) -> None:
    claim = door.core.jobs.claim(UUID(job.id), "w", 30.0)
    assert claim is not None
    assert door.core.jobs.fail(claim.job, CorruptInput("cut short"), Ending({}, None))


def test_a_deleted_job_is_gone_with_its_upload(door: Door, fleet: Client) -> None:
    job = fleet.submit(None, [b"x" * 100_000], model="text")
    assert len(door.core.objects.keys("uploads/")) == 1
    door.run(job.id)
    assert job.delete() is True
    assert door.core.objects.keys("uploads/") == []
    with pytest.raises(NotFound):
        job.refresh()
    assert list(fleet.jobs()) == []
    assert job.delete() is False


def test_a_running_job_is_deleted_when_it_has_stopped(door: Door, fleet: Client) -> None:
    job = fleet.submit(None, [b"text"], model="text")
    claim = door.core.jobs.claim(UUID(job.id), "w", 30.0)
    assert claim is not None
    assert job.delete() is False
    assert door.core.jobs.stop(claim.job, JobState.CANCELLED, None, Ending({}, None))
    door.core.sweeper.remove_hidden()
    assert door.core.database.run("select from job") == []


def test_a_failed_job_is_retried_and_succeeds(door: Door, fleet: Client) -> None:
    job = fleet.submit(None, [b"text"], model="text")
    failed(door, job)
    assert job.refresh().state == "failed"
    assert job.retry(deadline_s=60).state == "queued"
    with pytest.raises(Conflict):
        job.retry()
    door.run(job.id, {"text": "at last"})
    assert job.result() == {"text": "at last"}
    assert job.record.retries == 1


def test_a_job_is_kept_as_long_as_the_submit_says(door: Door, fleet: Client) -> None:
    job = fleet.submit(None, [b"text"], model="text", retention_s=90.0)
    door.run(job.id)
    record = job.refresh().record
    assert record.retention_s == 90.0
    assert record.expires_at is not None
    assert record.finished_at is not None
    assert (record.expires_at - record.finished_at).total_seconds() == pytest.approx(90.0, abs=1.0)
