"""Links on which nothing arrives any more although every socket is open."""

from pathlib import Path

from fleet.settings import Settings
from tests.support.chaos_scene import SECONDS, chaos_scene
from tests.support.waiting import eventually


def test_half_open_redis_links_of_a_worker_are_noticed_and_replaced(settings: Settings, tmp_path: Path) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        scene.succeeded(scene.submit())
        assert scene.worker.links.redis.strand() > 0
        scene.succeeded(scene.submit())


def test_redis_link_that_swallows_packets_mid_run_does_not_disturb_the_run(settings: Settings, tmp_path: Path) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        with scene.held_job() as job_id:
            scene.worker.links.redis.swallow()
        (job,) = scene.succeeded(job_id)
        later = scene.submit()
        scene.worker.links.redis.release()
        scene.succeeded(later)
    assert job.attempt == 1


def test_redis_link_of_the_api_that_swallows_packets_does_not_hold_up_a_submit(
    settings: Settings, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        scene.fleet.api.links.redis.swallow()
        job_id = scene.submit()
        scene.fleet.api.links.redis.release()
        scene.succeeded(job_id)


def test_worker_cut_off_from_the_record_past_its_lease_commits_nothing(settings: Settings, tmp_path: Path) -> None:
    with chaos_scene(settings, tmp_path, workers=2, started=1) as scene:
        cut_off, other = scene.fleet.workers
        job_id = scene.submit(params=SECONDS)
        scene.running(job_id)
        cut_off.links.postgres.swallow()
        scene.fleet.start(other)
        (won,) = scene.succeeded(job_id)
        cut_off.links.postgres.release()
        eventually(lambda: scene.fleet.counted(cut_off, "fleet_worker_runs_total", outcome="stale") == 1)
        assert scene.succeeded(job_id) == [won]
    assert won.attempt == 2
