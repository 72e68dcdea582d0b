"""The api is killed around the moment of its 202."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import httpx
import psycopg

from fleet.settings import Settings
from tests.support.chaos_scene import Scene, chaos_scene
from tests.support.faults import Breakable
from tests.support.waiting import eventually


def jobs_in(settings: Settings) -> list[str]:
    with psycopg.connect(settings.database_dsn) as connection:
        return [str(job_id) for (job_id,) in connection.execute("select id from job").fetchall()]


def test_sigkill_of_the_api_right_after_a_202_that_redis_never_heard_of(settings: Settings, tmp_path: Path) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        api = scene.fleet.api
        api.links.redis.cut()
        job_id = scene.submit()
        api.kill()
        api.links.redis.mend()
        scene.fleet.start(api)
        (job,) = scene.succeeded(job_id)
    assert job.attempt == 1


def test_sigkill_of_the_api_between_the_record_and_the_reply_and_the_repeat_is_the_same_job(
    settings: Settings, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path) as scene, ThreadPoolExecutor(1) as thread:
        api = scene.fleet.api
        # Stored, and then it waits for Redis: there it is killed.
        api.links.redis.swallow()
        unanswered = thread.submit(scene.post, "once")
        eventually(lambda: jobs_in(settings))
        api.kill()
        assert isinstance(unanswered.exception(), httpx.HTTPError)
        api.links.redis.release()
        scene.fleet.start(api)
        repeated = scene.post("once")
        assert [repeated.json()["id"]] == jobs_in(settings)
        assert repeated.headers["idempotency-replayed"] == "true"
        scene.succeeded(UUID(repeated.json()["id"]))


def test_fifty_submits_at_once_with_one_key_are_one_job_while_postgresql_ends_its_sessions(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path) as scene, ThreadPoolExecutor(50) as threads:
        answers = [threads.submit(insist, scene) for _ in range(50)]
        breakable.end_sessions()
        ids = {answer.result() for answer in answers}
        assert list(ids) == jobs_in(settings)
        scene.succeeded(UUID(ids.pop()))


def insist(scene: Scene) -> str:
    """The id of the job, asked for until there is one."""
    while True:
        answer = scene.post("one-key")
        if answer.status_code == 202:
            return str(answer.json()["id"])
        assert answer.status_code in (409, 503), answer.text


def test_sigterm_of_the_api_while_jobs_wait_and_another_one_takes_the_lead(settings: Settings, tmp_path: Path) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        scene.worker.stop()
        jobs = [scene.submit() for _ in range(3)]
        scene.fleet.api.signal(signal.SIGTERM)
        assert scene.fleet.api.wait() == 0
        scene.fleet.start(scene.fleet.api, scene.worker)
        scene.succeeded(*jobs)
