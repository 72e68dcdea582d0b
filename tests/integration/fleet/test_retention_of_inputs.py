"""What jobs read, uploads and the results of others, stays as long as somebody needs it: also against a submit that
comes in at this very moment.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fleet.contracts import JobState
from fleet.errors import NotFound
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job
from tests.support.sweeping import NOTHING, Sweeping, sweeping_of


@pytest.fixture
def scene(settings: Settings) -> Iterator[Sweeping]:
    with sweeping_of(settings) as opened:
        yield opened


def test_an_upload_lives_until_the_last_job_that_used_it_is_gone(scene: Sweeping) -> None:
    shared, alone = scene.upload(), scene.upload()
    first, second = scene.cancelled(uploads=[shared, alone]), scene.submit(uploads=[shared])
    scene.delete(first)
    assert [upload.id for upload in scene.retention.give_up_inputs([first.id])] == [alone]
    assert scene.retention.forget([first.id], [alone]) == 1
    claim = scene.claimed(second)
    scene.delete(second)
    # Its worker still reads it.
    assert scene.retention.give_up_inputs([second.id]) == []
    assert scene.jobs.stop(claim.job, JobState.CANCELLED, None, NOTHING)
    for _ in range(2):
        assert [upload.id for upload in scene.retention.give_up_inputs([second.id])] == [shared]
    assert scene.retention.forget([second.id], [shared]) == 1
    assert [scene.rows(table) for table in ("job", "upload", "job_source")] == [0, 0, 0]


def test_an_upload_that_was_given_up_is_not_taken_by_a_submit(scene: Sweeping) -> None:
    upload = scene.upload()
    job = scene.cancelled(uploads=[upload])
    scene.delete(job)
    scene.retention.give_up_inputs([job.id])
    with pytest.raises(NotFound) as refused:
        scene.jobs.submit(new_job(uploads=[upload]))
    assert refused.value.code == "upload-not-found"


def test_an_upload_is_either_given_up_or_taken_and_never_both(scene: Sweeping) -> None:
    def take(upload: Any) -> bool:
        barrier.wait()
        try:
            scene.jobs.submit(new_job(uploads=[upload]))
        except NotFound:
            return False
        return True

    def give_up(job: Any) -> bool:
        barrier.wait()
        return bool(scene.retention.give_up_inputs([job.id]))

    outcomes = set()
    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        for _ in range(40):
            upload = scene.upload()
            job = scene.cancelled(uploads=[upload])
            scene.delete(job)
            taken, given_up = threads.submit(take, upload), threads.submit(give_up, job)
            outcomes.add((taken.result(), given_up.result()))
    assert outcomes <= {(True, False), (False, True)}


def test_a_source_is_either_hidden_or_read_and_never_both(scene: Sweeping) -> None:
    def read(source: Any) -> bool:
        barrier.wait()
        try:
            scene.jobs.submit(new_job(source_jobs=[source.id]))
        except NotFound:
            return False
        return True

    def hide(source: Any) -> int:
        barrier.wait()
        return scene.retention.hide([source.id])

    outcomes = set()
    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        for _ in range(40):
            source = scene.succeeded(retention_s=0.001)
            submitted, hidden = threads.submit(read, source), threads.submit(hide, source)
            outcomes.add((submitted.result(), hidden.result()))
    assert outcomes <= {(True, 0), (False, 1)}
