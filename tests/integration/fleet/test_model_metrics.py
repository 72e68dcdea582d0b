"""How a model did lately, from the jobs in the record."""

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from fleet.contracts import Pool, RanOn
from fleet.database import Database
from fleet.errors import CorruptInput
from fleet.job_values import Ending
from fleet.jobs import JobStore
from fleet.model_metrics import AT_MOST, ModelMetricsReader
from fleet.settings import Settings
from fleet.sql import statements
from tests.support.fleet_of_one import new_job


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


def ran(jobs: JobStore, infer_s: float, batch_size: int = 1, **changes: object) -> UUID:
    job = jobs.submit(new_job(**changes)).job
    claim = jobs.claim(job.id, "w1", 30.0)
    assert claim is not None
    ran_on = RanOn(worker="w1", pool=Pool.CPU, device="CPU", provider="CPUExecutionProvider", batch_size=batch_size)
    ending = Ending({"infer": infer_s}, ran_on)
    assert jobs.finish(claim.job, result={}, artifacts=[], inputs=[], ending=ending)
    return job.id


def test_times_errors_and_batches_of_the_jobs_that_ended_in_the_window(database: Database) -> None:
    jobs, reader = JobStore(database), ModelMetricsReader(database)
    for number in range(1, 101):
        ran(jobs, number / 100, batch_size=1 + number % 2 * 2)
    ran(jobs, 99.0, model="other")
    long_ago = ran(jobs, 50.0)
    database.run("UPDATE job SET finished_at = finished_at - interval '2 hours' WHERE id = %(id)s", {"id": long_ago})
    claim = jobs.claim(jobs.submit(new_job(version=2)).job.id, "w1", 30.0)
    assert claim is not None
    assert jobs.fail(claim.job, CorruptInput("cut off"), Ending({"infer": 70.0}, None))
    jobs.submit(new_job())
    seen = reader.read("echo", None, 3600.0)
    assert (seen.jobs, seen.states, seen.errors) == (101, {"succeeded": 100, "failed": 1}, {"corrupt-input": 1})
    assert seen.per_s == pytest.approx(101 / 3600)
    assert seen.infer_s is not None
    assert (seen.infer_s.p50, seen.infer_s.p95) == pytest.approx((0.505, 0.9505))
    assert seen.total_s is not None
    assert seen.mean_batch_size == pytest.approx(2.0)
    of_two = reader.read("echo", 2, 3600.0)
    assert (of_two.jobs, of_two.infer_s, of_two.mean_batch_size) == (1, None, None)
    assert reader.read("nothing", None, 60.0).jobs == 0


def test_a_window_is_read_by_its_index(settings: Settings) -> None:
    explained = "EXPLAIN " + statements("model_metrics")["model_metrics"]
    values = {"name": "echo", "version": None, "window_s": 300.0, "limit": AT_MOST}
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute(
            "INSERT INTO job (id, tenant, task, model, version, lane, priority, pool, queue, state, max_attempts,"
            " execution_timeout_s, finished_at)"
            " SELECT gen_random_uuid(), 'd', 'echo', 'echo', 1, 'bulk', 2, 'cpu', 'q',"
            " 'succeeded', 3, 1, clock_timestamp() - n * interval '1 minute' FROM generate_series(1, 20000) AS n"
        )
        connection.execute("ANALYZE job")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.prepare_threshold = 0
        plan = "\n".join(row[0] for row in connection.execute(explained.encode(), values).fetchall())
    assert "job_ended_of_model" in plan, plan
    assert "Seq Scan on job" not in plan
