"""Workers that are killed, frozen, stopped and replaced while they run jobs."""

import signal
from pathlib import Path

from fleet.objects import ObjectStore
from fleet.settings import Settings
from tests.support.chaos_scene import chaos_scene
from tests.support.fleet_of_one import wait_for
from tests.support.waiting import eventually


def test_sigkill_of_a_worker_mid_run_costs_an_attempt_and_not_the_job(settings: Settings, tmp_path: Path) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        with scene.held_job() as job_id:
            scene.worker.kill()
        scene.worker.start()
        (job,) = scene.succeeded(job_id)
    assert job.attempt == 2


def test_sigstop_of_a_worker_past_its_lease_and_what_it_does_after_waking_counts_for_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path, workers=2, started=1) as scene:
        frozen, other = scene.fleet.workers
        # Its result is made and on its way to the store, and there it stays until all is over.
        frozen.links.objects.swallow()
        job_id = scene.submit_mask()
        scene.running(job_id, "store")
        frozen.signal(signal.SIGSTOP)
        scene.fleet.start(other)
        (won,) = scene.succeeded(job_id)
        assert won.attempt == 2
        assert won.ran_on is not None
        assert won.ran_on.worker == other.name
        frozen.links.objects.release()
        frozen.signal(signal.SIGCONT)
        eventually(lambda: scene.fleet.counted(frozen, "fleet_worker_runs_total", outcome="stale") == 1)
        assert scene.succeeded(job_id) == [won], "nothing of it has changed"
    winners = {artifact.object.key for artifact in won.artifacts}
    assert set(ObjectStore(settings).keys(f"results/{job_id}/")) == winners, "the loser's object is swept"


def test_sigterm_of_a_worker_hands_its_job_back_and_spends_no_attempt(settings: Settings, tmp_path: Path) -> None:
    with chaos_scene(settings, tmp_path, LEASE_S="60") as scene:
        job_id = scene.submit(params={"repeat": 1_000_000}, max_attempts=1)
        scene.running(job_id)
        scene.worker.signal(signal.SIGTERM)
        assert scene.worker.wait() == 0
        wait_for(scene.jobs, job_id, "queued")
        scene.worker.start()
        (job,) = scene.succeeded(job_id)
    assert job.attempt == 2, "the second claim of a job that has one attempt"


def test_rolling_restart_of_all_workers_under_load_loses_and_doubles_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path, workers=2, LEASE_S="60") as scene:
        jobs = [scene.submit(params={"repeat": 10_000}, max_attempts=1) for _ in range(50)]
        for worker in scene.fleet.workers:
            eventually(lambda: scene.fleet.counted(worker, "fleet_worker_runs_total") > 0)  # noqa: B023
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
            scene.fleet.start(worker)
        scene.succeeded(*jobs)
