"""A job whose caller waits for its end is stored without a wait for the disk, and is on it before anything runs."""

from collections.abc import Iterator

import pytest

from fleet.database import Database
from fleet.jobs import JobStore
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """One connection that waits for the disk at each commit, unless a statement says otherwise."""
    with Database(settings.database_dsn, max_connections=1) as opened:
        opened.run("SET synchronous_commit = on")
        yield opened


def one(database: Database, expression: str) -> object:
    row = database.one(f"SELECT {expression} AS value")
    assert row is not None
    return row["value"]


@pytest.mark.parametrize("awaited", [True, False])
def test_only_the_submit_itself_goes_without_the_wait(database: Database, awaited: bool) -> None:
    submitted = JobStore(database).submit(new_job(awaited=awaited))
    assert submitted.job.state == "queued"
    assert one(database, "current_setting('synchronous_commit')") == "on"


def test_its_claim_is_on_the_disk_and_the_job_with_it(database: Database) -> None:
    jobs = JobStore(database)
    job = jobs.submit(new_job(awaited=True)).job
    stored_at = one(database, "pg_current_wal_insert_lsn()")
    assert jobs.claim(job.id, "w1", 30.0) is not None
    assert database.one("SELECT pg_current_wal_flush_lsn() >= %(at)s::pg_lsn AS flushed", {"at": stored_at}) == {
        "flushed": True
    }
