"""A database that was migrated while processes of the version before still run on it, as in a rolling update."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from fleet.contracts import Job, JobState
from fleet.database import Database
from fleet.ids import new_id
from fleet.job_values import JobFilter
from fleet.jobs import JobStore
from fleet.migrate import migrate, migrations
from fleet.queues import QueueKind
from fleet.retention import Retention
from tests.support.servers import Servers

_NUMBERS = count(1)
#: What the processes of schema 0001 say; what does not matter here is left out.
SUBMIT = """
INSERT INTO job (id, tenant, task, model, version, lane, priority, pool, queue, inputs, labels, max_attempts, deadline,
                 execution_timeout_s, published_at)
VALUES (%(id)s, 'default', 'echo', 'echo', 1, 'bulk', 2, 'cpu', 'cpu.bulk.normal', %(inputs)s, '{"site": "a"}', 1,
        clock_timestamp() + interval '1 hour', 60, clock_timestamp())
ON CONFLICT (id) DO NOTHING RETURNING *"""
UPLOAD = """
INSERT INTO upload (id, tenant, bucket, key, size, media_type, state, expires_at, used_at)
VALUES (%(id)s, 'default', 'fleet', %(key)s, 3, 'text/plain', 'complete', clock_timestamp(), clock_timestamp())"""
CLAIM = """
UPDATE job SET state = 'running', attempt = attempt + 1, lease_owner = 'old#1', stage = NULL, progress = 0,
       lease_until = clock_timestamp() + interval '30 seconds', started_at = coalesce(started_at, clock_timestamp())
 WHERE id = %(id)s AND NOT cancel_requested AND attempt - drains < max_attempts AND state = 'queued' RETURNING *"""
FINISH = """
UPDATE job SET state = 'succeeded', result = '{}', progress = 1, finished_at = clock_timestamp(),
       lease_owner = NULL, lease_until = NULL
 WHERE id = %(id)s AND state = 'running' AND attempt = 1 RETURNING *"""
HAND_BACK = """
UPDATE job SET state = 'queued', drains = drains + 1, progress = 0, lease_owner = NULL, lease_until = NULL,
       published_at = NULL, publish_seq = publish_seq + 1
 WHERE id = %(id)s AND state = 'running' AND attempt = 1 RETURNING *"""
CANCEL = """
UPDATE job SET cancel_requested = true, state = 'cancelled', finished_at = clock_timestamp()
 WHERE id = %(id)s AND state = 'queued' RETURNING *"""


class Old:
    """A process of the version before."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self._connection = connection

    def say(self, statement: str, **values: Any) -> dict[str, Any] | None:
        cursor = self._connection.execute(statement.encode(), values)
        return cursor.fetchone() if cursor.description else None

    def upload(self) -> tuple[UUID, str]:
        upload_id = new_id()
        key = f"uploads/default/{upload_id}/scan.nii"
        self.say(UPLOAD, id=upload_id, key=key)
        return upload_id, key

    def submit(self, *keys: str) -> UUID:
        job_id = new_id()
        objects = ", ".join(f'{{"object": {{"bucket": "fleet", "key": "{key}", "size": 3}}}}' for key in keys)
        for _ in range(2):
            # Repeated, as after a lost answer.
            self.say(SUBMIT, id=job_id, inputs=f"[{objects}]")
        return job_id


@pytest.fixture
def dsn(servers: Servers) -> Iterator[str]:
    name = f"upgraded_{next(_NUMBERS)}"
    created = servers.create_database(name)
    with psycopg.connect(created) as connection:
        connection.execute(migrations()[0].sql.encode())
        connection.execute("create table migration (number integer primary key, name text, at timestamptz)")
        connection.execute("insert into migration (number, name) values (1, '0001_record.sql')")
    yield created
    servers.drop_database(name)


@pytest.fixture
def old(dsn: str) -> Iterator[Old]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        yield Old(connection)


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    with Database(dsn) as opened:
        yield opened


def job_of(database: Database, job_id: UUID) -> Job:
    return JobStore(database).get(job_id)


@pytest.mark.parametrize("before", [True, False], ids=["before the migration", "after it"])
def test_what_a_job_of_an_older_process_reads_is_kept(dsn: str, old: Old, database: Database, before: bool) -> None:
    upload, key = old.upload()
    source = old.submit()
    if not before:
        migrate(dsn)
    reader = old.submit(key, f"results/{source}/1/mask.nii")
    if before:
        migrate(dsn)
    assert not Retention(database).upload_fates([upload])[upload].abandoned
    assert Retention(database).give_up_abandoned([upload]) == 0
    for statement in (CLAIM, FINISH):
        assert old.say(statement, id=source)
    old.say("update job set expires_at = clock_timestamp() where id = %(id)s", id=source)
    assert Retention(database).hide([source]) == 0, "an open job reads its result"
    listed = JobStore(database).page("default", JobFilter(model="echo", labels={"site": "a"}), limit=9)
    assert {job.id for job in listed} == {source, reader}


def test_ends_that_an_older_process_writes_are_news_and_expire(dsn: str, old: Old, database: Database) -> None:
    done, gone = old.submit(), old.submit()
    assert old.say(CLAIM, id=done)
    migrate(dsn)
    before = {job_id: job_of(database, job_id).revision for job_id in (done, gone)}
    assert old.say(FINISH, id=done)
    assert old.say(CANCEL, id=gone)
    for job_id in (done, gone):
        job = job_of(database, job_id)
        assert job.revision > before[job_id]
        assert job.finished_at is not None
        assert job.expires_at == job.finished_at + timedelta(seconds=job.retention_s)


def test_a_lease_that_an_older_worker_hands_back_spends_no_attempt(dsn: str, old: Old, database: Database) -> None:
    job_id = old.submit()
    migrate(dsn)
    assert old.say(CLAIM, id=job_id), "older workers go on until they are replaced"
    assert old.say(HAND_BACK, id=job_id)
    claim = JobStore(database).claim(job_id, "new", 30.0, alone=False)
    assert claim is not None
    assert (claim.job.attempt, claim.job.forgiven) == (2, 1)


def test_jobs_that_ended_long_before_the_migration_are_kept_for_the_usual_time_from_then_on(
    dsn: str, old: Old, database: Database
) -> None:
    job_id = old.submit()
    assert old.say(CANCEL, id=job_id)
    old.say("update job set finished_at = finished_at - interval '1 year' where id = %(id)s", id=job_id)
    migrate(dsn)
    assert Retention(database).expired(10) == []
    assert job_of(database, job_id).expires_at is not None


def test_a_retry_of_an_older_job_has_the_time_that_it_had_at_first(dsn: str, old: Old, database: Database) -> None:
    first = old.submit()
    assert old.say(CANCEL, id=first)
    migrate(dsn)
    second = old.submit()
    assert old.say(CANCEL, id=second)
    for job_id in (first, second):
        job = JobStore(database).retry(job_id, "default")
        assert job.state is JobState.QUEUED
        assert job.deadline is not None
        row = database.one("select queued_at, deadline_s from job where id = %(id)s", {"id": job_id})
        assert row is not None
        assert round((job.deadline - row["queued_at"]).total_seconds()) == round(row["deadline_s"]) == 3600


@pytest.mark.parametrize("before", [True, False], ids=["before the migration", "after it"])
@pytest.mark.parametrize("device", ["gpu-only", "cpu-only"])
def test_where_a_job_of_an_older_process_may_run_is_what_its_model_says(
    dsn: str, old: Old, database: Database, device: str, before: bool
) -> None:
    old.say(
        "insert into model_card (name, version, card, sha256, announced_by) values"
        " ('echo', 1, jsonb_build_object('device', %(device)s::text), '', 'old')",
        device=device,
    )
    pool = device.removesuffix("-only")
    if not before:
        migrate(dsn)
    job_id = new_id()
    old.say(SUBMIT.replace("'cpu', 'cpu.bulk.normal'", f"'{pool}', '{pool}.bulk.normal'"), id=job_id, inputs="[]")
    if before:
        migrate(dsn)
    (row,) = database.run("select device_policy, queue from job")
    kind = "gpu-only" if device == "gpu-only" else "cpu"
    assert row == {"device_policy": device, "queue": f"{kind}.bulk.normal"}
    # A message for the queue that CPU workers take from, too, leads none of them to it.
    claim = JobStore(database).claim(job_id, "helper", 30.0, kind=QueueKind.GPU)
    assert claim is None
