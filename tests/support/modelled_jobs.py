"""The job store and a model of it in lockstep: each verb is done to both, and `check` compares each column of each row.

The clock is a row of the test's own database (`frozen_clock`: its `clock_timestamp()` stands before PostgreSQL's in the
search path), so leases, pauses and deadlines pass when a test says so and every moment is known exactly.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from fleet.contracts import Job, JobState
from fleet.database import Database
from fleet.errors import Conflict, CorruptInput, DependencyError, FleetError, IdempotencyKeyReused, NotFound
from fleet.ids import new_id
from fleet.job_values import Ending, NewJob
from fleet.jobs import JobStore
from fleet.outbox import Outbox, Publication
from fleet.queues import queue_name
from fleet.retention import Retention
from fleet.sql import statements
from tests.support.due_jobs import take_due
from tests.support.fleet_of_one import new_job
from tests.support.job_model import AT_ONCE, ENDED, LAPSED, VISIBLE, JobModel

START = datetime(2030, 1, 1, tzinfo=UTC)
LEASE_S, KEY_TTL_S, GRACE_S = 30.0, 3600.0, 5.0
KILLED = "killed by signal 9"
QUEUES = ["cpu.bulk.high", "cpu.bulk.normal"]
_TABLES = (
    "job, job_part, job_input, job_word, job_stream, job_source, "
    "idempotency, worker_death, webhook_delivery, webhook_try"
)
_CLOCK = """
create schema frozen;
create table frozen.clock (now timestamptz not null);
insert into frozen.clock values ('2030-01-01 00:00:00+00');
create function frozen.clock_timestamp() returns timestamptz language sql volatile as 'select now from frozen.clock'
"""


@contextmanager
def frozen_clock(dsn: str) -> Iterator[Database]:
    """The database, with a clock that stands still until it is set."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_CLOCK)
    separator = "&" if "?" in dsn else "?"
    path = "options=-csearch_path%3Dfrozen,pg_catalog,public"
    with Database(f"{dsn}{separator}{path}", max_connections=1) as database:
        yield database


class ModelledJobs:
    """Empties the record first. A `number` picks a job, a token or a message out of those that there are."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = JobStore(database, idempotency_ttl_s=KEY_TTL_S)
        self.outbox = Outbox(database)
        self.retention = Retention(database)
        database.run(f"truncate {_TABLES}")
        self.now = START
        self.set_clock()
        self.model: dict[UUID, JobModel] = {}
        self.submits: list[NewJob] = []
        #: Every token that was ever given.
        self.tokens: list[Job] = []
        self.messages: list[Publication] = []
        self.keys: dict[tuple[str, str], tuple[str, UUID, datetime]] = {}
        #: When the processes of that name were last seen to die.
        self.deaths: dict[str, datetime] = {}
        self.rows: dict[UUID, dict[str, Any]] = {}
        self.wins: dict[UUID, int] = {}
        #: What the verb of this step may have written; of that, what was retried by hand or deleted.
        self.touched: set[UUID] = set()
        self.retried: set[UUID] = set()
        self.deleted: set[UUID] = set()
        self.finishes = 0

    def set_clock(self) -> None:
        self.database.run("update frozen.clock set now = %(now)s", {"now": self.now})

    def open_jobs(self) -> list[JobModel]:
        return [job for job in self.model.values() if not job.ended]

    def pick(self, number: int, *, ended: bool = False) -> JobModel:
        """Mostly a job that may still change, or one that has ended."""
        some = [job for job in self.model.values() if job.ended == ended] if number % 4 else []
        return (some or list(self.model.values()))[-1 - number // 4 % len(some or self.model)]

    def pick_token(self, number: int) -> Job:
        """Mostly one of a job that runs: half of them stale, where there are any."""
        running = [token for token in self.tokens if self.model[token.id].state == "running"]
        stale = [token for token in running if self.model[token.id].attempt != token.attempt]
        some = [self.tokens, stale, running, running][number % 4] or running or self.tokens
        return some[-1 - number // 4 % len(some)]

    def touch(self, job_id: UUID, *, when: bool) -> None:
        if when:
            self.touched.add(job_id)

    # -- the api

    def submit(self, changes: dict[str, Any]) -> None:
        """Few at a time, so that much happens to each."""
        if len(self.open_jobs()) > 2:
            return
        new = new_job(**changes)
        held = self.take_key(new)
        if held is None:
            submitted = self.store.submit(new)
            assert (submitted.job.id, submitted.replayed) == (new.id, False)
            self.model[new.id] = self.fresh(new)
            self.submits.append(new)
            self.touched.add(new.id)
        elif held[2] == self.now:
            with pytest.raises(Conflict):
                self.store.submit(new)
        elif held[0] != new.fingerprint:
            with pytest.raises(IdempotencyKeyReused):
                self.store.submit(new)
        else:
            submitted = self.store.submit(new)
            assert (submitted.job.id, submitted.replayed) == (held[1], True)

    def take_key(self, new: NewJob) -> tuple[str, UUID, datetime] | None:
        """Whose the key is, when it is not free."""
        if new.idempotency_key is None:
            return None
        held = self.keys.get((new.tenant, new.idempotency_key))
        if held is not None and held[2] >= self.now:
            return held
        expiry = self.now + timedelta(seconds=KEY_TTL_S)
        self.keys[new.tenant, new.idempotency_key] = (new.fingerprint, new.id, expiry)
        return None

    def submit_again(self, number: int) -> None:
        """Under the same id, as after an answer that got lost."""
        new = self.submits[number % len(self.submits)]
        if self.model[new.id].deleted_at is None:
            self.take_key(new)
            assert self.store.submit(new).job.id == new.id

    def fresh(self, new: NewJob) -> JobModel:
        return JobModel(
            id=new.id,
            tenant=new.tenant,
            queue=queue_name(new.pool, new.lane, new.priority),
            max_attempts=new.max_attempts,
            deadline_s=new.deadline_s,
            retention_s=new.retention_s,
            deadline=self.now + timedelta(seconds=new.deadline_s),
            published_at=self.now if new.published else None,
            publish_after=(self.now, self.now),
        )

    def cancel(self, number: int, tenant: str) -> None:
        job = self.pick(number)
        if job.cancel(tenant, self.now):
            self.touched.add(job.id)
            assert self.store.cancel(job.id, tenant).state.value == job.state
        elif job.shown_to(tenant) and job.state == "cancelled":
            assert self.store.cancel(job.id, tenant).state is JobState.CANCELLED
        else:
            with pytest.raises(Conflict if job.shown_to(tenant) else NotFound):
                self.store.cancel(job.id, tenant)

    def retry(self, number: int, tenant: str, deadline_s: float | None) -> None:
        job = self.pick(number, ended=True)
        if job.retry(tenant, deadline_s, self.now):
            self.touched.add(job.id)
            self.retried.add(job.id)
            assert self.store.retry(job.id, tenant, deadline_s).state is JobState.QUEUED
        else:
            with pytest.raises(Conflict if job.shown_to(tenant) else NotFound):
                self.store.retry(job.id, tenant, deadline_s)

    def delete(self, number: int, tenant: str) -> None:
        job = self.pick(number)
        if job.delete(tenant, self.now):
            self.touched.add(job.id)
            self.deleted.add(job.id)
            self.keys = {key: held for key, held in self.keys.items() if held[1] != job.id}
            assert (self.retention.delete(job.id, tenant) is not None) == job.ended
        else:
            with pytest.raises(NotFound):
                self.retention.delete(job.id, tenant)

    def publication_failed(self, number: int, seq: int) -> None:
        job = self.pick(number)
        self.touch(job.id, when=job.unpublish(seq))
        self.store.publication_failed(self.store.get(job.id).model_copy(update={"publish_seq": seq}))

    # -- workers

    def claim(self, number: int, worker: str, how: str) -> None:
        job = self.pick(number)
        seq = job.publish_seq - (how == "through an old message")
        alone = how != "beside others"
        assert self.store.runs_alone(job.id) == job.runs_alone(self.now)
        claimed = job.claim(worker, LEASE_S, seq, self.now, alone=alone)
        if how == "and the answer was lost":
            # The connection broke after the commit: the statement runs once more as it was.
            owner = f"{worker}#{os.getpid()}#{new_id().hex}"
            told = {"id": job.id, "owner": owner, "lease_s": LEASE_S, "seq": seq, "alone": alone, "kind": None}
            rows = [self.database.one(statements("jobs")["claim_job"], told) for _ in range(2)]
            found = Job.model_validate(rows[1]) if rows[1] else None
            assert (rows[0] is None) == (rows[1] is None)
        else:
            claim = self.store.claim(job.id, worker, LEASE_S, seq, alone=alone)
            found = claim.job if claim else None
        assert (found is not None) == claimed
        if found is not None:
            self.touched.add(job.id)
            self.tokens.append(found)

    def renew(self, numbers: list[int], lease_s: float) -> None:
        asked = {(token.id, token.attempt) for token in map(self.pick_token, numbers)}
        kept = {(job_id, attempt) for job_id, attempt in asked if self.model[job_id].renew(attempt, lease_s, self.now)}
        self.touched |= {job_id for job_id, _ in kept}
        self.check_words(self.store.renew(list(asked), lease_s), kept)

    def watch(self, numbers: list[int]) -> None:
        asked = {(token.id, token.attempt) for token in map(self.pick_token, numbers)}
        kept = {(job_id, attempt) for job_id, attempt in asked if self.model[job_id].holds(attempt)}
        self.check_words(self.store.watch(list(asked)), kept)

    def check_words(self, words: dict[Any, Any], kept: set[tuple[UUID, int]]) -> None:
        assert words.keys() == kept
        for (job_id, _), word in words.items():
            job = self.model[job_id]
            assert (word.cancel_requested, word.overdue) == (job.cancel_requested, job.deadline <= self.now)

    def note_progress(self, number: int, stage: str, progress: float) -> None:
        token = self.pick_token(number)
        self.touch(token.id, when=self.model[token.id].note(token.attempt, stage, progress))
        self.store.note_progress([(token.id, token.attempt, stage, progress)])

    def finish(self, number: int) -> None:
        token = self.pick_token(number)
        self.finishes += 1
        result = {"by": token.attempt, "number": self.finishes}
        won = self.model[token.id].finish(token.attempt, result, {"infer": 1.5}, self.now)
        self.touch(token.id, when=won)
        ending = Ending({"infer": 1.5}, None)
        done = self.store.finish(token, result=result, artifacts=[], inputs=[], ending=ending)
        if won:
            assert token.id not in self.wins
            self.wins[token.id] = token.attempt
        # The winner may ask as often as it likes; a loser is told that it lost.
        assert (done is not None) == (self.wins.get(token.id) == token.attempt)

    def fail(self, number: int, retryable: bool) -> None:
        token = self.pick_token(number)
        error: FleetError = DependencyError("away") if retryable else CorruptInput("cut short")
        job = self.model[token.id]
        took = job.fail(token.attempt, error.code, {"fetch": 0.5}, self.now, retryable=retryable)
        self.touch(token.id, when=took)
        told = self.store.fail(token, error, Ending({"fetch": 0.5}, None))
        assert (told.state.value if told else None) == (job.state if took else None)

    def stop(self, number: int, state: JobState) -> None:
        token = self.pick_token(number)
        took = self.model[token.id].stop(token.attempt, state.value, "stopped-here", {}, self.now)
        self.touch(token.id, when=took)
        error = FleetError("as asked", code="stopped-here")
        assert (self.store.stop(token, state, error, Ending({}, None)) is not None) == took

    def hand_back(self, number: int, pause_s: float) -> None:
        token = self.pick_token(number)
        took = self.model[token.id].hand_back(token.attempt, "drained", pause_s, self.now)
        self.touch(token.id, when=took)
        assert (self.store.hand_back(token, "drained", pause_s) is not None) == took

    def bury(self, worker: str, ours: bool) -> None:
        pid = os.getpid() + (0 if ours else 1)
        if ours:
            self.deaths[worker] = self.now
        lost = {job.id for job in self.model.values() if ours and job.bury(worker, self.now)}
        self.touched |= lost
        assert set(self.store.bury(worker, pid, KILLED)) == lost

    # -- the reconciler

    def time_passes(self, seconds: int) -> None:
        if seconds:
            self.now += timedelta(seconds=seconds)
            self.set_clock()

    def lapse_leases(self) -> None:
        lost = {job.id: job.state for job in self.model.values() if job.lapse(self.how_lost(job), self.now)}
        self.touched |= lost.keys()
        assert {job.id: job.state.value for job in self.outbox.lapse_leases()} == lost

    def how_lost(self, job: JobModel) -> str:
        died_at = self.deaths.get(job.worker or "", START - timedelta(days=1))
        known = job.lease_until is not None and died_at > job.lease_until - timedelta(seconds=1)
        return KILLED if known else LAPSED

    def expire_queued(self) -> None:
        expired = {job.id for job in self.model.values() if job.expire(self.now)}
        self.touched |= expired
        assert {job.id for job in self.outbox.expire_queued()} == expired

    def take_unpublished(self, limit: int) -> None:
        due: dict[tuple[str, str], list[JobModel]] = defaultdict(list)
        for job in self.model.values():
            if job.due(self.now):
                due[job.queue, job.tenant].append(job)
        at_once = {pair: any(job.publish_after[0] == AT_ONCE for job in jobs) for pair, jobs in due.items()}
        assert self.outbox.due() == at_once
        taken = take_due(self.outbox, limit)
        ids = {message.job_id for message in taken}
        assert len(ids) == len(taken) == sum(min(limit, len(jobs)) for jobs in due.values())
        for message in taken:
            job = self.model[message.job_id]
            assert (message.seq, message.queue, message.tenant) == (job.publish_seq, job.queue, job.tenant)
            job.published_at = self.now
        for jobs in due.values():
            first = [job.publish_after[0] for job in jobs if job.id in ids]
            left = [job.publish_after[0] for job in jobs if job.id not in ids]
            assert not left or max(first) <= min(left)
        self.touched |= ids
        self.messages += taken

    def unpublish(self, numbers: list[int]) -> None:
        refused = [self.messages[-1 - number % len(self.messages)] for number in numbers] if self.messages else []
        batch = {message.job_id: message for message in refused}
        self.touched |= {job_id for job_id, lost in batch.items() if self.model[job_id].unpublish(lost.seq)}
        self.outbox.unpublish(list(batch.values()))

    def forget_publications(self) -> None:
        lost = [
            job
            for job in self.model.values()
            if job.state == "queued" and job.published_at is not None and job.published_at < self.now
        ]
        self.due_again(lost, None)
        assert sum(self.outbox.forget_publications(queue, self.now, 100) for queue in QUEUES) == len(lost)

    def forget_overtaken(self, queue: str, empty: bool) -> None:
        grace = timedelta(seconds=GRACE_S)
        here = [job for job in self.model.values() if job.queue == queue and job.published_at is not None]
        waiting = [job for job in here if job.state == "queued" and job.published_at < self.now - grace]  # type: ignore[operator]
        taken = [job.published_at for job in here if job.state in ("running", "succeeded")]
        newest = max((moment for moment in taken if moment is not None), default=START)
        lost = [job for job in waiting if empty or (job.published_at or self.now) < newest - grace]
        assert (queue in self.outbox.overdue_queues([queue, "cpu.bulk.low"], GRACE_S)) == bool(waiting)
        self.due_again(lost, AT_ONCE)
        assert self.outbox.forget_overtaken(queue, empty=empty, grace_s=GRACE_S, limit=100) == len(lost)

    def due_again(self, lost: list[JobModel], when: datetime | None) -> None:
        for job in lost:
            assert job.unpublish(job.publish_seq, when)
            self.touched.add(job.id)

    # -- what must hold after each of them

    def check(self) -> None:
        """The record is as the model says, and changed only in ways that are allowed whatever the model says."""
        before, self.rows = self.rows, self.read()
        assert self.rows.keys() == self.model.keys()
        for job_id, row in self.rows.items():
            check_row(row, self.model[job_id])
            check_alone(row, self.now)
            if job_id in before:
                self.check_change(before[job_id], row)
        self.touched, self.retried, self.deleted = set(), set(), set()
        held = self.database.run("select tenant, key, fingerprint, job_id, expires_at from idempotency")
        kept = {(row["tenant"], row["key"]): (row["fingerprint"], row["job_id"], row["expires_at"]) for row in held}
        assert kept == self.keys

    def read(self) -> dict[UUID, dict[str, Any]]:
        return {row["id"]: row for row in self.database.run("select *, xmin::text as written_by from job")}

    def check_change(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """A refused verb has not even written the same once more."""
        if old["written_by"] != new["written_by"]:
            assert new["id"] in self.touched
        if old["state"] in ENDED and new["id"] not in self.retried | self.deleted:
            assert old == new
        assert new["attempt"] >= old["attempt"]
        seen = any(old[column] != new[column] for column in VISIBLE)
        assert new["revision"] - old["revision"] == (1 if seen else 0)

    def drive_to_the_end(self) -> None:
        """Every accepted job ends: the reconciler and one good worker are enough, whatever was left behind."""
        for _ in range(4):
            self.now += timedelta(seconds=400)
            self.set_clock()
            self.outbox.lapse_leases()
            self.outbox.expire_queued()
            for queue in QUEUES:
                self.outbox.forget_publications(queue, self.now, 100)
            for message in take_due(self.outbox, 10_000):
                claim = self.store.claim(message.job_id, "w9", LEASE_S, message.seq)
                assert claim is not None
                done = self.store.finish(claim.job, result={}, artifacts=[], inputs=[], ending=Ending({}, None))
                assert done is not None
        assert all(row["state"] in ENDED for row in self.read().values())


def check_row(row: dict[str, Any], job: JobModel) -> None:
    """Every column as the model has it."""
    expected = deepcopy(vars(job))
    (earliest, latest), facts, worker = (expected.pop(name) for name in ("publish_after", "facts", "worker"))
    assert earliest <= row["publish_after"] <= latest
    job.publish_after = (row["publish_after"], row["publish_after"])
    assert (row["lease_owner"] or "#").split("#")[0] == (worker or "")
    error = row["error"] or {}
    assert error.get("facts") == facts
    history = [{name: value for name, value in note.items() if name != "at"} for note in row["history"]]
    seen = {name: row[name] for name in expected} | {"error": error.get("code"), "history": history}
    wrong = {name: (seen[name], value) for name, value in expected.items() if seen[name] != value}
    assert not wrong, f"of the row and of the model: {wrong}"


def check_alone(row: dict[str, Any], now: datetime) -> None:
    """What holds for every row by itself, whatever the model thinks."""
    assert (row["state"] == "running") == (row["lease_until"] is not None) == (row["lease_owner"] is not None)
    ended = row["state"] in ENDED
    assert ended == (row["finished_at"] is not None)
    # What is deleted while it waits is swept for that, and needs no other day.
    assert ended == (row["expires_at"] is not None) or row["deleted_at"] is not None
    assert 0 <= row["attempt"] - row["forgiven"] <= row["max_attempts"]
    assert len(row["history"]) <= 50
    assert all("at" in note for note in row["history"])
    if row["state"] == "succeeded":
        assert row["result"]["by"] == row["attempt"]
    if row["state"] == "queued":
        # Somebody will come for it: a message, the outbox in a while, or its deadline.
        assert row["published_at"] is not None or row["publish_after"] <= now + timedelta(seconds=300)
        assert row["attempt"] - row["forgiven"] < row["max_attempts"]
        assert not row["cancel_requested"]
