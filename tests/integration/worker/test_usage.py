"""What was run of each model is added up in the record: by several workers, and once each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.contracts import JobState
from fleet.database import Database
from fleet.settings import Settings
from fleet.usage import BatchRuns, UsageBoard, UsageDelta
from tests.support.bench import Bench
from tests.support.fleet_of_one import job_store, new_job, submit, wait_for, worker_process
from tests.support.waiting import eventually
from worker.engine.run_watch import Unwatched
from worker.usage import Usage


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


def test_deltas_of_several_workers_add_up(database: Database) -> None:
    board = UsageBoard(database)
    here, there = UsageDelta(success=2, queue_ns=5), UsageDelta(failure=1, failure_ns=7)
    here.ran(4, 0.001)
    here.ran(4, 0.001)
    there.ran(1, 0.5)
    there.ran(4, 0.002)
    board.add({("text", 1): here, ("text", 2): UsageDelta(success=1)})
    board.add({("text", 1): there})
    first, second = board.read("text")
    assert (first.success, first.failure, first.queue_ns, first.failure_ns) == (2, 1, 5, 7)
    assert (first.items, first.runs, first.mean_batch_size) == (13, 4, 3.25)
    assert first.batches == {1: BatchRuns(1, 500_000_000), 4: BatchRuns(3, 4_000_000)}
    assert first.last_at is not None
    assert (second.version, second.success, second.mean_batch_size) == (2, 1, None)
    assert board.read("text", 2) == [second]
    assert board.read("other") == []
    assert board.read() == [first, second]


def test_jobs_count_by_how_they_ended(bench: Bench, database: Database) -> None:
    usage = bench.process.usage
    bench.run(bench.submit())
    assert bench.run(bench.submit(params={"repeat": 0})).state is JobState.FAILED
    usage.ran("echo", 1, 3, 0.25)
    usage.tell()
    usage.tell()
    (told,) = UsageBoard(database).read("echo")
    assert (told.success, told.failure) == (1, 1)
    assert told.batches[3] == BatchRuns(1, 250_000_000)
    assert told.success_ns > 0
    assert told.failure_ns > 0


def test_stages_are_parts_of_what_clients_of_triton_know(database: Database, settings: Settings) -> None:
    usage = Usage(UsageBoard(database), Unwatched())
    with job_store(settings) as jobs:
        job = jobs.submit(new_job()).job
    seconds = {"queue": 1, "load": 2, "fetch": 4, "decode": 8, "prepare": 16, "infer": 32, "finish": 64, "store": 128}
    usage.ended(job, JobState.SUCCEEDED, seconds)
    usage.ended(job, JobState.CANCELLED, seconds)
    usage.ended(job, JobState.QUEUED, seconds)
    usage.ended(job, None, seconds)
    usage.tell()
    (told,) = UsageBoard(database).read()
    assert (told.queue_ns, told.input_ns, told.infer_ns, told.output_ns) == (3e9, 28e9, 32e9, 192e9)
    assert (told.success, told.failure, told.success_ns) == (1, 0, 255e9)


def test_what_could_not_be_told_is_told_the_next_time(database: Database) -> None:
    usage = Usage(UsageBoard(database), Unwatched())
    database.run("ALTER TABLE model_usage RENAME TO away")
    usage.ran("text", 1, 1, 0.1)
    usage.tell()
    usage.ran("text", 1, 1, 0.1)
    usage.tell()
    database.run("ALTER TABLE away RENAME TO model_usage")
    usage.tell()
    usage.tell()
    (told,) = UsageBoard(database).read()
    assert told.runs == 2


def test_a_worker_tells_while_it_runs_and_when_it_ends(settings: Settings, tmp_path: Path) -> None:
    with job_store(settings) as jobs, Database(settings.database_dsn) as database:
        board = UsageBoard(database)

        def told() -> list[int]:
            return [usage.success for usage in board.read()]

        with worker_process(settings, tmp_path):
            wait_for(jobs, submit(settings, jobs, new_job()).id)
            eventually(lambda: told() == [1])
            wait_for(jobs, submit(settings, jobs, new_job()).id)
        assert told() == [2]
