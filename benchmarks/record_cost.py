"""What one job costs the record: statements, bytes of WAL, and the time of each statement. For `benchmarks/noop.py`."""

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from fleet.contracts import Job, Lane, Pool, Priority
from fleet.database import Database
from fleet.ids import new_id
from fleet.job_values import Ending, NewJob
from fleet.jobs import JobStore

WARM_UP, TRIPS = 30, 300
IDLE_S = 6.0
Done = TypeVar("Done")


class Meter:
    """Statements committed and bytes of WAL between entry and exit, less what an idle fleet does by itself."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self.statements = 0.0
        self.wal_bytes = 0.0

    def __enter__(self) -> "Meter":
        before = self._read()
        time.sleep(IDLE_S)
        self._began_at, self._began = time.monotonic(), self._read()
        self._idle = [(after - first) / IDLE_S for first, after in zip(before, self._began, strict=True)]
        return self

    def __exit__(self, *_: object) -> None:
        # PostgreSQL's counters are up to a second late.
        time.sleep(1.5)
        passed = time.monotonic() - self._began_at
        spent = [after - before for before, after in zip(self._began, self._read(), strict=True)]
        self.statements, self.wal_bytes = (done - rate * passed for done, rate in zip(spent, self._idle, strict=True))
        self._connection.close()

    def _read(self) -> tuple[int, int]:
        self._connection.execute("SELECT pg_stat_clear_snapshot()")
        row = self._connection.execute(
            "SELECT xact_commit, (pg_current_wal_insert_lsn() - '0/0')::bigint FROM pg_stat_database"
            " WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        return row[0], row[1]


def round_trips(dsn: str, wait_for_disk: str) -> dict[str, list[float]]:
    """Seconds of each statement that a job needs, by the code of api and worker, on one connection."""
    with Database(dsn, max_connections=1) as database:
        database.run(f"SET synchronous_commit = {wait_for_disk}")
        lives = [life(JobStore(database)) for _ in range(WARM_UP + TRIPS)][WARM_UP:]
    submits, claims, finishes = zip(*lives, strict=True)
    return {"submit": list(submits), "claim": list(claims), "finish": list(finishes)}


def life(store: JobStore) -> tuple[float, float, float]:
    """Seconds of the submit, the claim and the finish of one job."""
    new = no_op()
    submitted, submit_s = clocked(lambda: store.submit(new))
    claim, claim_s = clocked(lambda: store.claim(submitted.job.id, "bench", 30.0, submitted.job.publish_seq))
    assert claim is not None
    _, finish_s = clocked(lambda: finished(store, claim.job))
    return submit_s, claim_s, finish_s


def finished(store: JobStore, job: Job) -> Job | None:
    ending = Ending({"infer": 0.1}, None)
    return store.finish(job, result={"values": [1.0, 2.0, 3.0]}, artifacts=[], inputs=[], ending=ending)


def no_op() -> NewJob:
    """Of a tenant of its own; no worker hears of it."""
    return NewJob(
        id=new_id(),
        tenant="bench",
        task="echo",
        model="echo",
        version=1,
        lane=Lane.INTERACTIVE,
        priority=Priority.NORMAL,
        pool=Pool.CPU,
        route_reason="",
        params={"values": [1.0, 2.0, 3.0]},
        inputs=[],
        labels={},
        max_attempts=3,
        deadline_s=300.0,
        execution_timeout_s=60.0,
        retention_s=3600.0,
        uploads=[],
    )


def clocked(call: Callable[[], Done]) -> tuple[Done, float]:
    began = time.perf_counter()
    return call(), time.perf_counter() - began
