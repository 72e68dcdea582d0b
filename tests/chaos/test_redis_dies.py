"""Redis that forgets, dies, and comes back empty. It is only a doorbell, and the record knows who waits."""

import re
from pathlib import Path

import redis

from fleet.broker import CANARY, Broker
from fleet.settings import Settings
from tests.support.chaos_scene import chaos_scene
from tests.support.faults import Breakable
from tests.support.waiting import eventually


def test_redis_killed_and_restarted_empty_while_a_job_runs_and_others_wait(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path, LEASE_S="60") as scene:
        with scene.held_job() as running:
            waiting = [scene.submit() for _ in range(5)]
            breakable.kill_redis()
            breakable.start(breakable.redis_server)
        jobs = scene.succeeded(running, *waiting)
    assert {job.attempt for job in jobs} == {1}, "the run went on, and no other began"


def test_flushall_while_jobs_wait_is_noticed_by_the_missing_canary(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with (
        chaos_scene(settings, tmp_path, LEASE_S="60") as scene,
        redis.Redis.from_url(settings.redis_url.get_secret_value()) as client,
    ):
        eventually(lambda: client.exists(CANARY))
        with scene.held_job() as running:
            waiting = [scene.submit() for _ in range(5)]
            breakable.flush_redis()
            eventually(lambda: client.exists(CANARY))
        jobs = scene.succeeded(running, *waiting)
        forgotten = scene.fleet.counted(scene.fleet.api, "fleet_reconciler_actions_total", action="broker-forgot")
        by_order = scene.fleet.counted(scene.fleet.api, "fleet_reconciler_actions_total", action="message-lost")
    assert {job.attempt for job in jobs} == {1}
    assert forgotten >= 5
    assert by_order == 0, "nothing was left to be found the slow way"


def test_client_kill_of_all_redis_connections_mid_run_and_a_second_message_is_a_refused_claim(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path, workers=2) as scene:
        with scene.held_job() as job_id:
            assert breakable.kill_redis_connections() > 0
            # As a broker does that believes its consumer dead; Celery itself may do so, too.
            job = scene.jobs.get(job_id)
            broker = Broker(settings.redis_url.get_secret_value())
            broker.publish(job.id, job.publish_seq, job.queue)
            broker.close()
            refused = "fleet_worker_claims_refused_total"
            eventually(lambda: any(scene.fleet.counted(worker, refused) for worker in scene.fleet.workers))
        (ended,) = scene.succeeded(job_id)
    assert ended.attempt == 1


def test_worker_looks_for_a_redis_that_is_gone_every_two_seconds_or_more_often(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        breakable.kill_redis()

        def pauses() -> list[float]:
            return [float(pause) for pause in re.findall(r"Trying again in ([\d.]+) s", scene.worker.log.read_text())]

        eventually(lambda: len(pauses()) >= 5)
        breakable.start(breakable.redis_server)
        scene.succeeded(scene.submit())
    assert max(pauses()) <= 2


def test_submit_while_redis_is_down_is_accepted_and_published_when_it_is_back(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        breakable.kill_redis()
        jobs = [scene.submit() for _ in range(3)]
        assert scene.http.get("/readyz").status_code == 200
        breakable.start(breakable.redis_server)
        scene.succeeded(*jobs)
