"""Jobs of an endpoint in the record: counted, purged, and told piece by piece, each to one reader."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet.contracts import Job
from fleet.database import Database
from fleet.endpoints import Endpoints
from fleet.errors import CorruptInput
from fleet.job_values import Ending
from fleet.jobs import JobStore
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job

OURS = {"endpoint": "ours"}


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


def submitted(database: Database, **changes: object) -> Job:
    return JobStore(database).submit(new_job(**{"labels": OURS, **changes})).job


def failed(database: Database, job: Job) -> Job:
    claim = JobStore(database).claim(job.id, "w1", 30.0)
    assert claim is not None
    ended = JobStore(database).fail(claim.job, CorruptInput("cut off"), Ending({}, None))
    assert ended is not None
    return ended


def test_a_purge_takes_what_waits_of_one_tenant_and_label_in_parts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.endpoints._PURGED_AT_ONCE", 2)
    waiting = {submitted(database).id for _ in range(5)}
    others = [submitted(database, labels={"endpoint": "other"}), submitted(database, tenant="else")]
    running = submitted(database)
    assert JobStore(database).claim(running.id, "w1", 30.0)
    endpoints = Endpoints(database)
    assert set(endpoints.purge("default", OURS)) == waiting
    assert list(endpoints.purge("default", OURS)) == []
    states = {job.state.value for job in JobStore(database).existing(list(waiting)).values()}
    assert states == {"cancelled"}
    kept = JobStore(database).existing([job.id for job in (*others, running)])
    assert sorted(job.state.value for job in kept.values()) == ["queued", "queued", "running"]


def test_jobs_are_counted_by_state_and_those_tried_again(database: Database) -> None:
    for _ in range(2):
        submitted(database)
    failed(database, submitted(database))
    again = failed(database, submitted(database))
    JobStore(database).retry(again.id, "default")
    submitted(database, labels={"endpoint": "other"})
    counts = Endpoints(database).counts("default", OURS)
    assert (counts.states, counts.retried) == ({"queued": 3, "failed": 1}, 1)


def test_each_piece_is_one_readers_even_when_many_ask_at_once(database: Database) -> None:
    job, endpoints = submitted(database), Endpoints(database)
    assert endpoints.told(job) == 0
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: endpoints.tell(job, 0, 3, f"reader-{number}"), range(8)))
    assert won.count(True) == 1
    assert endpoints.told(job) == 3
    assert not endpoints.tell(job, 0, 5, "late")
    assert endpoints.tell(job, 3, 5, "next")


def test_a_statement_that_is_repeated_is_told_the_same_again(database: Database) -> None:
    job, endpoints = submitted(database), Endpoints(database)
    assert endpoints.tell(job, 0, 3, "reader")
    assert endpoints.tell(job, 0, 3, "reader")
    assert endpoints.told(job) == 3


def test_after_a_retry_by_hand_all_is_told_anew(database: Database) -> None:
    job, endpoints = submitted(database), Endpoints(database)
    assert endpoints.tell(job, 0, 3, "first")
    failed(database, job)
    again = JobStore(database).retry(job.id, "default")
    assert endpoints.told(again) == 0
    assert endpoints.tell(again, 0, 2, "second")
    assert endpoints.told(again) == 2
    # Who still reads what was before the retry is told nothing.
    assert not endpoints.tell(job, 3, 4, "third")
