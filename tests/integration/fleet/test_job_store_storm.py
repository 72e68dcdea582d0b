"""Threads that do anything to the same jobs at any time, with an audit of every change that PostgreSQL committed."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pytest

from fleet.contracts import Job, JobState
from fleet.database import Database
from fleet.errors import Conflict, CorruptInput, DependencyError
from fleet.ids import new_id
from fleet.job_values import Ending
from fleet.jobs import JobStore
from fleet.outbox import Outbox
from fleet.settings import Settings
from tests.support.due_jobs import take_due
from tests.support.fleet_of_one import new_job

THREADS, JOBS, SECONDS = 8, 24, 4.0
LEASE_S = 0.03
QUEUES = ["cpu.interactive.normal"]
NOTHING = Ending({}, None)
AUDIT = """
create table audit (n bigserial, job_id uuid, old jsonb, new jsonb);
create function note_change() returns trigger language plpgsql as $$ begin
    insert into audit (job_id, old, new) values (new.id, to_jsonb(old), to_jsonb(new)); return null; end $$;
create trigger audited after update on job for each row execute function note_change()
"""
#: What the state machine of fleet/contracts.py allows, and what stays as it is.
ALLOWED = {
    *(("queued", state) for state in ("queued", "running", "cancelled", "expired")),
    *(("running", state) for state in ("running", "queued", "succeeded", "failed", "cancelled", "expired")),
    # Only by hand.
    *((state, "queued") for state in ("failed", "cancelled", "expired")),
}


class Storm:
    """What all threads share: the jobs, and every token that was ever given."""

    def __init__(self, database: Database) -> None:
        self.store, self.outbox = JobStore(database), Outbox(database)
        self.jobs = [self.store.submit(new_job(max_attempts=5)).job.id for _ in range(JOBS)]
        self.claims: list[Job] = []
        self.wins: list[Job] = []
        self.ends_at = time.monotonic() + SECONDS

    def thread(self, seed: int) -> int:
        random, steps = Random(seed), 0
        while time.monotonic() < self.ends_at:
            with suppress(Conflict):
                self.step(random)
            steps += 1
        return steps

    def step(self, random: Random) -> None:
        job_id = random.choice(self.jobs)
        if random.random() < 0.4 or not self.claims:
            claim = self.store.claim(job_id, f"w{random.randrange(3)}", LEASE_S, random.randrange(4))
            if claim is not None:
                self.claims.append(claim.job)
            return
        # Mostly a fresh token, sometimes one that is long stale.
        token = self.claims[-random.randrange(1, 9) :][0] if random.random() < 0.7 else random.choice(self.claims)
        match random.randrange(14):
            case 0 | 1:
                self.finish(token)
            case 2 | 3:
                self.store.fail(token, DependencyError("away"), NOTHING)
            case 4 if random.random() < 0.2:
                self.store.fail(token, CorruptInput("cut short"), NOTHING)
            case 5:
                self.store.stop(token, JobState.CANCELLED, None, NOTHING)
            case 6:
                self.store.hand_back(token, "drained")
            case 7:
                held = random.sample(self.claims, min(3, len(self.claims)))
                self.store.renew([(job.id, job.attempt) for job in held], LEASE_S)
            case 8:
                self.store.note_progress([(token.id, token.attempt, "infer", random.random())])
            case 9 if random.random() < 0.2:
                self.store.cancel(job_id, "default")
            case 10:
                self.store.retry(job_id, "default")
            case 11:
                self.outbox.lapse_leases()
            case 12:
                self.outbox.unpublish(take_due(self.outbox, 3))
            case 13 if random.random() < 0.1:
                self.store.bury("w1", os.getpid(), "killed by signal 9")
            case _:
                self.outbox.forget_overtaken(QUEUES[0], empty=True, grace_s=0.0, limit=5)

    def finish(self, token: Job) -> None:
        mark = str(new_id())
        done = self.store.finish(token, result={"mark": mark}, artifacts=[], inputs=[], ending=NOTHING)
        if done is not None:
            self.wins.append(done)

    def end_all(self) -> None:
        """Time heals: leases lapse, and a good worker takes what is left."""
        for _ in range(8):
            time.sleep(LEASE_S)
            self.outbox.lapse_leases()
            for job_id in self.jobs:
                claim = self.store.claim(job_id, "w9", 30.0)
                if claim is not None:
                    self.finish(claim.job)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
        connection.execute(AUDIT)
    with Database(settings.database_dsn, max_connections=THREADS) as opened:
        yield opened


def test_a_storm_of_verbs_commits_no_job_twice_and_gives_no_attempt_twice(database: Database) -> None:
    storm = Storm(database)
    with ThreadPoolExecutor(THREADS) as threads:
        steps = sum(threads.map(storm.thread, range(THREADS)))
    storm.end_all()
    changes = database.run("select job_id, old, new from audit order by n")
    rows = {row["id"]: row for row in database.run("select * from job")}

    assert steps > len(changes) > JOBS
    assert all(row["finished_at"] is not None for row in rows.values())
    # At most one commit per job, and it is the one that its worker was told of.
    commits = Counter(change["job_id"] for change in changes if became(change, "succeeded"))
    assert {job_id for job_id, row in rows.items() if row["state"] == "succeeded"} == commits.keys()
    assert set(commits.values()) <= {1}
    assert {(job.id, job.attempt, str(job.result)) for job in storm.wins} == {
        (row["id"], row["attempt"], str(row["result"])) for row in rows.values() if row["state"] == "succeeded"
    }
    # No attempt was given to two, and the record knows of each that was given.
    given = [(change["job_id"], change["new"]["attempt"]) for change in changes if took(change)]
    assert len(given) == len(set(given))
    assert {(job.id, job.attempt) for job in storm.claims} <= set(given)
    assert_lives(changes)


def became(change: dict[str, Any], state: str) -> bool:
    return bool(change["new"]["state"] == state != change["old"]["state"])


def took(change: dict[str, Any]) -> bool:
    return bool(change["new"]["attempt"] != change["old"]["attempt"])


def assert_lives(changes: list[dict[str, Any]]) -> None:
    """Each change starts where the one before it ended, and is one that the state machine has."""
    last: dict[UUID, dict[str, Any]] = {}
    for change in changes:
        old, new = change["old"], change["new"]
        assert last.get(change["job_id"], old) == old
        last[change["job_id"]] = new
        assert (old["state"], new["state"]) in ALLOWED
        assert new["attempt"] - old["attempt"] in (0, 1)
        assert new["attempt"] - new["forgiven"] <= new["max_attempts"]
        assert new["revision"] - old["revision"] in (0, 1)
        assert new["publish_seq"] - old["publish_seq"] in (0, 1)
        if took(change):
            assert new["state"] == "running"
        if old["state"] in ("failed", "cancelled", "expired"):
            assert new["retries"] == old["retries"] + 1
