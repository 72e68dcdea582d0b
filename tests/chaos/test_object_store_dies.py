"""The object store goes away while a job needs it: minutes of work are not thrown away for seconds of outage."""

import hashlib
from pathlib import Path

import numpy as np

from fleet.objects import ObjectStore
from fleet.settings import Settings
from tests.support.chaos_scene import chaos_scene
from tests.support.threshold_model import MODEL, mask_in, nrrd_of, random_volume


def test_object_store_down_while_a_job_stores_its_result(settings: Settings, tmp_path: Path) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        scene.worker.links.objects.cut()
        job_id = scene.submit_mask(seed=5)
        scene.running(job_id, "store")
        scene.worker.links.objects.mend()
        (job,) = scene.succeeded(job_id)
    assert job.attempt == 1, "the result was kept until it could be stored"
    mask = next(artifact for artifact in job.artifacts if artifact.name == "mask.nii.gz")
    data = b"".join(ObjectStore(settings).stream(mask.object))
    assert hashlib.sha256(data).hexdigest() == mask.object.sha256
    volume = random_volume(5, 16)
    assert np.array_equal(mask_in(data, volume), volume)


def test_object_store_down_while_a_job_fetches_its_input(settings: Settings, tmp_path: Path) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        octets = {"content-type": "application/octet-stream"}
        body = nrrd_of(random_volume(6, 16))
        upload = scene.http.post("/api/v1/uploads?name=volume.nrrd", content=body, headers=octets).json()
        scene.worker.links.objects.cut()
        job_id = scene.submit(model=MODEL, inputs=[{"upload": upload["id"]}])
        scene.running(job_id, "fetch")
        scene.worker.links.objects.mend()
        (job,) = scene.succeeded(job_id)
    assert job.attempt == 1


def test_worker_killed_while_it_waits_for_the_object_store(settings: Settings, tmp_path: Path) -> None:
    with chaos_scene(settings, tmp_path) as scene:
        scene.worker.links.objects.cut()
        job_id = scene.submit_mask()
        scene.running(job_id, "store")
        scene.worker.kill()
        scene.worker.links.objects.mend()
        scene.worker.start()
        (job,) = scene.succeeded(job_id)
    assert job.attempt == 2
    assert {artifact.object.key.split("/")[2] for artifact in job.artifacts} == {"2"}
