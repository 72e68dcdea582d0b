"""Where a job stands, in queues that are deeper than anybody counts."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from fleet.contracts import Job
from fleet.database import Database
from fleet.jobs import JobStore
from fleet.places import COUNTED_AT_MOST, Places
from fleet.settings import Settings

_QUEUE = "cpu.bulk.normal"
_INSERT = """
INSERT INTO job (id, tenant, task, model, version, lane, priority, pool, queue, state, max_attempts,
                 execution_timeout_s, deadline_s, input_bytes, published_at, publish_after)
SELECT gen_random_uuid(), tenant, 'x', 'm', 1, 'bulk', 2, 'cpu', %(queue)s, 'queued', 3, 3600, 86400, 100,
       CASE WHEN number <= %(published)s THEN now() + number * interval '1 ms' END, now() + number * interval '1 ms'
  FROM unnest(ARRAY['alice', 'bob']) AS tenant, generate_series(1, %(jobs)s) AS number
"""


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """2 x 1,500 jobs of two tenants wait, 2 x 600 of them with a message."""
    with Database(settings.database_dsn) as opened:
        opened.run(_INSERT, {"queue": _QUEUE, "published": 600, "jobs": 1500})
        opened.run("ANALYZE job")
        yield opened


def nth(database: Database, tenant: str, number: int) -> Job:
    """The n-th job of a tenant, from 1."""
    row = database.one(
        "SELECT id FROM job WHERE tenant = %(tenant)s ORDER BY publish_after OFFSET %(before)s LIMIT 1",
        {"tenant": tenant, "before": number - 1},
    )
    assert row is not None
    job_id: UUID = row["id"]
    return JobStore(database).get(job_id)


def test_those_that_were_published_before_are_counted_up_to_the_limit(database: Database) -> None:
    places = Places(database)
    early = places.of(nth(database, "alice", 100))
    assert early is not None
    assert (early.held, early.published, early.own_held, early.counted) == (False, 2 * 99, 0, True)
    late = places.of(nth(database, "alice", 600))
    assert late is not None
    assert (late.published, late.counted, late.least) == (COUNTED_AT_MOST, False, COUNTED_AT_MOST)
    assert late.along > 0.99
    assert len(late.ahead) == 200
    assert set(late.ahead) == {("m", 1, 100)}


def test_held_jobs_come_after_all_that_are_published_and_their_own(database: Database) -> None:
    database.run("DELETE FROM job WHERE tenant = 'bob' AND published_at IS NOT NULL")
    places, job = Places(database), nth(database, "alice", 700)
    place = places.of(job)
    assert place is not None
    assert (place.held, place.published, place.own_held, place.counted) == (True, 600, 99, True)
    assert 0.1 < place.along < 0.12
    assert places.held_by_others(job, 50) == {"bob": 50}
    assert places.held_by_others(job, 5_000) == {"bob": 900}


def test_a_job_that_waits_no_more_has_no_place(database: Database) -> None:
    job = nth(database, "alice", 1)
    assert JobStore(database).claim(job.id, "w1", 30.0)
    assert Places(database).of(job) is None
    (running,) = Places(database).running()
    assert (running.id, running.worker, running.tenant, running.input_bytes) == (job.id, "w1", "alice", 100)
