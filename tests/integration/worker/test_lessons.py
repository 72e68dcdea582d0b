"""Runs teach the record how long they take: what counts, and what happens when it cannot be told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.contracts import InlineInput, JobInput, JobState, Pool
from fleet.cost import CPU_KIND, Basis, Key, size_bucket
from fleet.database import Database
from fleet.service_times import ServiceTimes
from fleet.settings import Settings
from tests.support.bench import Bench
from tests.support.fleet_of_one import job_store, new_job, submit, wait_for, worker_process
from tests.support.waiting import eventually
from worker.lessons import Lessons

INPUT = JobInput(inline=InlineInput(data="aGFsbG8=", media_type="text/plain"))


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


def known(database: Database) -> dict[Key, float]:
    rows = database.run("SELECT * FROM service_time")
    return {Key(row["model"], row["version"], row["bucket"], row["device"]): row["weight"] for row in rows}


def test_a_success_teaches_by_model_size_and_device(bench: Bench, database: Database) -> None:
    bench.run(bench.submit())
    bench.process.lessons.tell()
    bench.process.lessons.tell()
    assert known(database) == {Key("echo", 1, 0, CPU_KIND): 1.0}


def test_a_failure_teaches_nothing(bench: Bench, database: Database) -> None:
    assert bench.run(bench.submit(params={"repeat": 0})).state is JobState.FAILED
    bench.process.lessons.tell()
    assert known(database) == {}


def test_waiting_and_loading_do_not_count(database: Database, settings: Settings) -> None:
    times = ServiceTimes(database)
    lessons = Lessons(times, "NVIDIA H200")
    with job_store(settings) as jobs:
        job = jobs.submit(new_job(inputs=[INPUT])).job
    lessons.note(job, {"queue": 50.0, "load": 9.0, "fetch": 0.5, "infer": 1.5}, between_s=30.0)
    lessons.tell()
    of_five_bytes = size_bucket(5)
    assert set(known(database)) == {Key("echo", 1, of_five_bytes, "NVIDIA H200")}
    (row,) = database.run("SELECT exp(mean_log) AS seconds FROM service_time")
    assert row["seconds"] == pytest.approx(2.05), "an outage of the record does not count either"


def test_of_what_waits_to_be_told_only_the_latest_is_kept(database: Database, settings: Settings) -> None:
    with job_store(settings) as jobs:
        job = jobs.submit(new_job()).job
    lessons = Lessons(ServiceTimes(database), CPU_KIND)
    for _ in range(3000):
        lessons.note(job, {"infer": 1.0})
    lessons.tell()
    assert known(database) == {Key("echo", 1, 0, CPU_KIND): 1000.0}


def test_what_could_not_be_told_is_told_the_next_time(database: Database, settings: Settings) -> None:
    with job_store(settings) as jobs:
        job = jobs.submit(new_job()).job
    lessons = Lessons(ServiceTimes(database), CPU_KIND)
    database.run("ALTER TABLE service_time RENAME TO away")
    lessons.note(job, {"infer": 1.0})
    lessons.tell()
    lessons.note(job, {"infer": 1.0})
    lessons.tell()
    database.run("ALTER TABLE away RENAME TO service_time")
    lessons.tell()
    lessons.tell()
    assert known(database) == {Key("echo", 1, 0, CPU_KIND): 2.0}


def test_a_worker_tells_with_its_heartbeat_and_the_rest_at_its_end(
    settings: Settings, tmp_path: Path, database: Database
) -> None:
    key = Key("echo", 1, 0, CPU_KIND)
    with job_store(settings) as jobs:
        with worker_process(settings, tmp_path):
            wait_for(jobs, submit(settings, jobs, new_job(params={"pause_s": 0.3})).id)
            eventually(lambda: known(database) == {key: 1.0})
            wait_for(jobs, submit(settings, jobs, new_job(params={"pause_s": 0.3})).id)
        assert known(database) == {key: 2.0}
    estimate = ServiceTimes(database).model().of("echo", 1, 0, Pool.CPU, prior_s=0.01)
    assert estimate.basis is Basis.MEASURED
    assert estimate.low_s < 0.3 < estimate.high_s
