"""A job that is deleted while a real worker is at it: the run ends, nothing of the job is left, the worker goes on."""

from pathlib import Path
from typing import Any

from fleet.errors import NotFound
from fleet.settings import Settings
from tests.support.fleet_of_one import worker_process
from tests.support.front_door import Door, front_door
from tests.support.threshold_model import MODEL, WINDOWED, make_models, nrrd_of, random_volume
from tests.support.waiting import eventually


def submitted(door: Door, model: str, side: int, **params: Any) -> str:
    ticket = door.http.post("/api/v1/uploads?name=scan.nrrd", content=nrrd_of(random_volume(1, side))).json()
    answer = door.submit(model=model, inputs=[{"upload": ticket["id"]}], params=params)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def gone(door: Door, job_id: str) -> bool:
    try:
        door.core.jobs.get(door.id(job_id))
    except NotFound:
        return True
    return False


def state(door: Door, job_id: str) -> str:
    return str(door.http.get(f"/api/v1/jobs/{job_id}").json()["state"])


def test_a_job_deleted_while_a_worker_runs_it_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    make_models(tmp_path / "models")
    models = str(tmp_path / "models")
    with (
        front_door(settings, reconcile_every_s=0.2) as door,
        worker_process(settings, tmp_path, MODELS_PATH=models) as process,
    ):
        eventually(lambda: door.http.get("/api/v1/models").json()["models"])
        long = submitted(door, WINDOWED, 64, overlap=0.9)
        eventually(lambda: door.http.get(f"/api/v1/jobs/{long}").json()["stage"] == "infer")
        assert door.http.delete(f"/api/v1/jobs/{long}").status_code == 202
        assert door.http.get(f"/api/v1/jobs/{long}").status_code == 404
        eventually(lambda: gone(door, long))
        assert door.core.objects.keys("results/") == door.core.objects.keys("uploads/") == []
        after = submitted(door, MODEL, 16)
        eventually(lambda: state(door, after) == "succeeded")
        assert process.poll() is None
        assert len(door.core.objects.keys(f"results/{after}/")) >= 1
        assert door.http.delete(f"/api/v1/jobs/{after}").status_code == 204
        assert door.core.objects.keys("results/") == door.core.objects.keys("uploads/") == []
