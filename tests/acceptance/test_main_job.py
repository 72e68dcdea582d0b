"""The main job from outside, on the whole local stack: a head scan goes in, a brain mask comes out."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from cli.stack import Stack
from fleet_client import Client, InvalidRequest, JobFailed, NotFound

SCAN = Path("examples/data/head-t1.nii.gz")
MODEL = "brain-extraction"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environment = {"LEASE_S": "3", "RECONCILE_EVERY_S": "0.5"}
    with Stack(tmp_path_factory.mktemp("fleet"), workers=1, durable=False, environment=environment) as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url) as opened:
        yield opened


def assert_same_grid(mask: Path, volume: Path) -> None:
    one, other = sitk.ReadImage(str(mask)), sitk.ReadImage(str(volume))
    assert one.GetSize() == other.GetSize()
    for fact in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(one, fact)(), getattr(other, fact)(), atol=1e-4)


def test_brain_is_found_and_its_mask_lies_on_the_scan(client: Client, tmp_path: Path) -> None:
    seen: list[float] = []
    job = client.segment(SCAN, model=MODEL)
    job.wait(progress=lambda record: seen.append(record.progress), timeout=120)
    (brain,) = job.result()["labels"]
    assert 1350 < brain["volume_ml"] < 1500
    assert job.ran_on is not None
    assert job.ran_on.provider == "CPUExecutionProvider"
    assert {"queue", "fetch", "decode", "prepare", "infer", "finish", "encode", "store"} <= set(job.timings)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, "progress moved while it ran"
    saved = {path.name: path for path in job.save(tmp_path)}
    assert saved["preview.png"].read_bytes().startswith(b"\x89PNG")
    assert_same_grid(saved["mask.nii.gz"], SCAN)
    # An independent reader places it on the same affine.
    mask, scan = nibabel.load(saved["mask.nii.gz"]), nibabel.load(SCAN)
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
    voxel_ml = abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    assert np.count_nonzero(np.asarray(mask.dataobj)) * voxel_ml == pytest.approx(brain["volume_ml"], rel=1e-4)


def test_oblique_and_flipped_volume_comes_back_as_it_went_in(client: Client, tmp_path: Path) -> None:
    scan = sitk.PermuteAxes(sitk.Flip(sitk.ReadImage(str(SCAN)), [True, False, True]), [2, 0, 1])
    turn = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3)
    direction = np.array(turn.GetMatrix()).reshape(3, 3) @ np.array(scan.GetDirection()).reshape(3, 3)
    scan.SetDirection(direction.ravel().tolist())
    path = tmp_path / "turned.nrrd"
    sitk.WriteImage(scan, str(path))
    job = client.segment(path, model=MODEL, format="nrrd", mirror=False, preview=False).wait(timeout=120)
    saved = {file.name: file for file in job.save(tmp_path / "out")}
    assert set(saved) == {"mask.nrrd"}
    assert_same_grid(saved["mask.nrrd"], path)
    assert 1250 < job.result()["labels"][0]["volume_ml"] < 1550


def test_worker_killed_in_the_middle_costs_an_attempt_and_not_the_job(stack: Stack, client: Client) -> None:
    job = client.segment(SCAN, model=MODEL)
    give_up = time.monotonic() + 60
    while job.refresh().stage != "infer":
        assert time.monotonic() < give_up
        time.sleep(0.05)
    os.kill(stack.pids["worker-1-bulk"], signal.SIGKILL)
    while not job.refresh().ended:
        assert time.monotonic() < give_up + 60
        # What `fleet up` does all the time: whoever died is started again.
        stack.tick()
        time.sleep(0.1)
    record = httpx.get(f"{stack.url}/api/v1/jobs/{job.id}").json()
    assert record["state"] == "succeeded"
    assert record["attempt"] == 2
    assert 1350 < record["result"]["labels"][0]["volume_ml"] < 1500


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"this is a text about a scan", "not-a-volume"),
        (SCAN.read_bytes()[:100_000], "truncated-gzip"),
    ],
)
def test_bad_file_fails_the_job_with_its_code(client: Client, tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    with pytest.raises(JobFailed) as caught:
        client.segment(path, model=MODEL).wait(timeout=60)
    assert caught.value.job.error is not None
    assert caught.value.job.error.code == code
    assert caught.value.job.artifacts == []


def test_what_can_be_known_at_once_is_refused_at_once(client: Client) -> None:
    with pytest.raises(NotFound, match="brain-extraction"):
        client.segment(SCAN, model="no-such-model")
    with pytest.raises(InvalidRequest, match="threshold"):
        client.segment(SCAN, model=MODEL, threshold=7)
    with pytest.raises(InvalidRequest, match="colour"):
        client.segment(SCAN, model=MODEL, colour="red")


def test_models_and_health_are_shown(stack: Stack, client: Client) -> None:
    assert {"brain-extraction", "echo"} <= {model.name for model in client.models()}
    assert client.model(MODEL).params_schema["properties"]["format"]
    assert httpx.get(f"{stack.url}/readyz").json()["status"] == "pass"
    page = httpx.get(f"{stack.url}/docs").text
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert len(assets) == 3
    for asset in assets:
        assert asset.startswith("/docs/static/"), "nothing comes from elsewhere"
        assert httpx.get(stack.url + asset).status_code == 200
    assert "fleet_jobs_submitted_total" in httpx.get(f"{stack.url}/metrics").text
