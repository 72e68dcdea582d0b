"""PostgreSQL goes away and comes back: runs wait for it, callers are told to."""

from pathlib import Path

import psycopg

from fleet.settings import Settings
from tests.support.chaos_scene import chaos_scene
from tests.support.faults import Breakable
from tests.support.waiting import eventually


def count_jobs(settings: Settings) -> int:
    with psycopg.connect(settings.database_dsn) as connection:
        (row,) = connection.execute("select count(*) from job").fetchall()
    return int(row[0])


def test_postgresql_restarted_mid_run_costs_no_attempt(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path, LEASE_S="30") as scene:
        with scene.held_job() as running:
            waiting = scene.submit()
            breakable.stop_postgres()
            breakable.start(breakable.postgres_server)
        jobs = scene.succeeded(running, waiting)
    assert {job.attempt for job in jobs} == {1}


def test_run_that_ends_while_postgresql_is_down_is_committed_when_it_is_back(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path, LEASE_S="30") as scene:
        with scene.held_job() as job_id:
            breakable.stop_postgres()
        eventually(lambda: "waiting for a dependency" in scene.worker.log.read_text())
        breakable.start(breakable.postgres_server)
        (job,) = scene.succeeded(job_id)
    assert job.attempt == 1


def test_submit_while_postgresql_is_down_is_503_with_retry_after_and_stores_nothing(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        first = scene.submit()
        scene.succeeded(first)
        breakable.stop_postgres()
        answers = [scene.post(key=f"key-{number}") for number in range(3)]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
            assert int(answer.headers["retry-after"]) >= 1
        breakable.start(breakable.postgres_server)
        assert count_jobs(settings) == 1
        eventually(lambda: scene.post(key="key-0").status_code == 202)
        assert count_jobs(settings) == 2


def test_all_sessions_of_postgresql_ended_while_jobs_run_and_come_in(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path, LEASE_S="30") as scene:
        with scene.held_job() as running:
            assert breakable.end_sessions() > 0
            waiting = [scene.submit() for _ in range(5)]
        jobs = scene.succeeded(running, *waiting)
    assert {job.attempt for job in jobs} == {1}
