"""Hostile files from upload to refusal, through the real front door and one real worker, which outlives them all."""

import base64
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.support.clone import ROOT
from tests.support.fleet_of_one import worker_process
from tests.support.front_door import Door, front_door
from tests.support.hostile_files import HOSTILE, LIMITS
from tests.support.servers import Servers
from tests.support.threshold_model import MODEL, make_models, nrrd_of, random_volume
from tests.support.waiting import eventually

DOCUMENTED = frozenset(
    re.findall(
        r"`([a-z0-9-]+)`", (ROOT / "docs/how-to/segment-a-volume.md").read_text("utf-8").partition("## What is ")[2]
    )
)
UPLOADED_AS = {"content-type": "application/octet-stream"}


@dataclass(frozen=True)
class Fleet:
    door: Door
    worker: subprocess.Popen[bytes]
    scratch: Path

    def upload(self, data: bytes, name: str) -> str:
        answer = self.door.http.post("/api/v1/uploads", params={"name": name}, content=data, headers=UPLOADED_AS)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job_of(self, source: dict[str, Any], **params: Any) -> dict[str, Any]:
        """The job of this one input, once it has ended."""
        body = {"model": MODEL, "inputs": [source], "params": params}
        answer = self.door.http.post("/api/v1/jobs", json=body, headers={"prefer": "wait=60"})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def unharmed(self) -> bool:
        """The process that was started is the one that works, and no file of a job is in its scratch folder."""
        (known,) = self.door.core.catalogue.workers()
        ours = [path for path in self.scratch.rglob("*") if path.name != ".lock" and path.parent != self.scratch]
        return self.worker.poll() is None and known.word.pid == self.worker.pid and not ours


@pytest.fixture(scope="module")
def fleet(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    models, scratch = folder / "models", folder / "scratch"
    make_models(models)
    environment = {"MODELS_PATH": str(models), "WORKER_SCRATCH": str(scratch), **LIMITS}
    with servers.fresh() as settings, front_door(settings) as door:
        with worker_process(settings, folder, **environment) as worker:
            eventually(door.core.catalogue.workers)
            yield Fleet(door, worker, scratch)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_fails_its_job_and_nothing_else(fleet: Fleet, name: str, tmp_path: Path) -> None:
    expected = HOSTILE[name]
    job = fleet.job_of({"upload": fleet.upload(expected.make(tmp_path), f"{name}.nii.gz")})
    refused_as(fleet, job, expected.code)


def refused_as(fleet: Fleet, job: dict[str, Any], code: str) -> None:
    assert (job["state"], job["error"]["code"]) == ("failed", code), job["error"]
    assert code in DOCUMENTED
    assert job["error"]["retryable"] is False
    assert job["attempt"] == 1, "what is wrong with an input is not tried again"
    assert (job["result"], job["artifacts"]) == (None, [])
    told = f"{job['error']['message']} {job['error']['facts']}"
    assert str(fleet.scratch) not in told
    assert "Traceback" not in told
    answer = fleet.door.http.get(f"/api/v1/jobs/{job['id']}/result")
    assert (answer.status_code, answer.json()["code"]) == (409, "job-has-no-result")
    assert fleet.door.core.objects.keys(f"results/{job['id']}/") == []
    eventually(fleet.unharmed, within_s=20)


@pytest.mark.parametrize("name", ["png", "zip-leads-up", "nan-spacing", "dicom-two-series", "cut-gzip"])
def test_it_is_the_same_within_the_request(fleet: Fleet, name: str, tmp_path: Path) -> None:
    expected = HOSTILE[name]
    data = base64.b64encode(expected.make(tmp_path)).decode()
    refused_as(fleet, fleet.job_of({"data": data, "name": "../../etc/passwd"}), expected.code)


@pytest.mark.parametrize("name", ["jpeg", "gzip-bomb", "dicom-missing-slice"])
def test_it_is_the_same_past_the_front_door(fleet: Fleet, name: str, tmp_path: Path) -> None:
    """Through a presigned URL the front door sees no byte of it."""
    expected = HOSTILE[name]
    data = expected.make(tmp_path)
    ticket = fleet.door.http.post("/api/v1/uploads", json={"name": f"{name}.nii", "size": len(data)}).json()
    assert urlsplit(ticket["url"]).port != urlsplit(fleet.door.url).port
    httpx.put(ticket["url"], content=data, trust_env=False).raise_for_status()
    refused_as(fleet, fleet.job_of({"upload": ticket["id"]}), expected.code)


def test_a_series_that_is_not_there_is_refused_with_those_that_are(fleet: Fleet, tmp_path: Path) -> None:
    upload = fleet.upload(HOSTILE["dicom-two-series"].make(tmp_path), "a.zip")
    job = fleet.job_of({"upload": upload}, series_uid="1.9.9")
    refused_as(fleet, job, "series-not-found")
    assert [series["series_uid"] for series in job["error"]["facts"]["series"]] == ["1.2.3", "1.2.9"]


@pytest.mark.parametrize("source", [{"data": ""}, {"data": "===="}, {"data": "not base64"}])
def test_no_bytes_are_refused_at_the_door(fleet: Fleet, source: dict[str, str]) -> None:
    body = {"model": MODEL, "inputs": [source]}
    assert fleet.door.http.post("/api/v1/jobs", json=body).status_code == 422
    empty = fleet.door.http.post("/api/v1/uploads", content=b"", headers=UPLOADED_AS)
    assert (empty.status_code, empty.json()["code"]) == (422, "empty-input")


def test_the_worker_that_refused_them_serves_the_next_volume(fleet: Fleet, tmp_path: Path) -> None:
    for name in ("zip-bomb", "dicom-cut-compressed-slice", "png"):
        fleet.job_of({"upload": fleet.upload(HOSTILE[name].make(tmp_path), name)})
    job = fleet.job_of({"upload": fleet.upload(nrrd_of(random_volume(1, 12)), "sound.nrrd")})
    assert job["state"] == "succeeded", job["error"]
    assert job["ran_on"]["worker"] == fleet.door.core.catalogue.workers()[0].word.name
    eventually(fleet.unharmed, within_s=20)
    decoders = [child for child in psutil.Process(fleet.worker.pid).children(recursive=True) if child.is_running()]
    assert len(decoders) <= 4, "one that is kept warm per thread, and no more"
