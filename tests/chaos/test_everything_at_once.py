"""Several faults in the same moment."""

from pathlib import Path

from fleet.settings import Settings
from tests.support.chaos_scene import chaos_scene
from tests.support.faults import Breakable


def test_worker_api_redis_and_postgresql_killed_in_the_same_moment(
    settings: Settings, breakable: Breakable, tmp_path: Path
) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        with scene.held_job() as running:
            waiting = [scene.submit() for _ in range(5)]
            scene.worker.kill()
            scene.fleet.api.kill()
            breakable.kill_redis()
            breakable.stop_postgres()
        breakable.start_all()
        scene.fleet.start()
        scene.succeeded(running, *waiting)
