"""Pictures through the front door and a real worker: in the request, uploaded, zipped, and behind a URL."""

import base64
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fleet.settings import Settings
from tests.support.classifiers import MODEL, colours, make_model
from tests.support.file_server import Site
from tests.support.fleet_of_one import ROOT, worker_process
from tests.support.front_door import Door, front_door
from tests.support.pictures import encoded, png_bomb, with_orientation
from tests.support.waiting import eventually
from worker.contract import Array


def plain(*colour: int) -> Array:
    return np.broadcast_to(np.array(colour, np.uint8), (30, 40, 3))


RED, GREEN = encoded(plain(250, 20, 10), "PNG"), encoded(plain(10, 250, 10), "PNG")


@dataclass
class Fleet:
    door: Door
    site: Site

    def post(self, *inputs: dict[str, Any], **params: Any) -> dict[str, Any]:
        body = {"model": MODEL, "inputs": list(inputs), "params": params}
        answer = httpx.post(f"{self.door.url}/api/v1/jobs", json=body, headers={"Prefer": "wait=60"}, timeout=90)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def upload(self, name: str, content: bytes) -> dict[str, str]:
        ticket = self.door.http.post("/api/v1/uploads", json={"name": name, "size": len(content)}).json()
        self.door.http.put(ticket["url"], content=content).raise_for_status()
        return {"upload": ticket["id"]}


@pytest.fixture
def fleet(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    batching = {"max_batch_size": 8, "dynamic": True, "instances": 2}
    make_model(tmp_path / "models", colours(gain=20), batching=batching, max_attempts=1)
    places = {"MODELS_PATH": str(tmp_path / "models"), "OUTWARD_ALLOW_NETWORKS": "127.0.0.1/32"}
    site = Site({"/red.png": RED, "/page.html": b"<!DOCTYPE html><html></html>"})
    worker = worker_process(settings, tmp_path / "worker", IMAGE_MAX_PIXELS="1000000", **places)
    reach = [ip_network("127.0.0.1/32")]
    try:
        with front_door(settings, max_wait_s=60, outward_allow_networks=reach) as door, worker:
            eventually(door.core.catalogue.workers)
            yield Fleet(door, site)
    finally:
        site.close()


def data(content: bytes) -> dict[str, str]:
    return {"data": f"data:image/png;base64,{base64.b64encode(content).decode()}", "name": "a.png"}


def test_pictures_are_classified_wherever_they_come_from(fleet: Fleet, tmp_path: Path) -> None:
    """One fleet for all of it: a worker takes seconds to start."""
    job = fleet.post(data(RED), top_k=2, quality=True)
    assert job["state"] == "succeeded", job
    result = job["result"]
    assert [said["class_name"] for said in result["predictions"]] == ["red", "green"]
    assert (result["top_class"], result["quality"]["width"]) == ("red", 40)
    assert {"decode", "prepare", "infer"} <= job["timings"].keys()

    assert fleet.post(fleet.upload("green.png", GREEN))["result"]["top_class"] == "green"
    assert fleet.post({"url": f"{fleet.site.url}/red.png"})["result"]["top_class"] == "red"

    mixed = fleet.post(
        data(GREEN),
        {"url": f"{fleet.site.url}/red.png"},
        {"url": f"{fleet.site.url}/page.html"},
        {"url": f"{fleet.site.url}/none.png"},
        data(png_bomb(20_000, 20_000)),
        data(with_orientation(plain(0, 0, 255), 6)),
    )["result"]
    assert (mixed["count"], mixed["succeeded"], mixed["failed"]) == (6, 3, 3)
    told = [item["error"]["code"] if "error" in item else item["result"]["top_class"] for item in mixed["items"]]
    assert told == ["green", "red", "not-a-picture", "url-not-served", "too-many-pixels", "blue"]
    assert mixed["items"][1]["name"] == "red.png"

    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(600):
            archive.writestr(f"{number:04}.png", GREEN if number % 2 else RED)
    job = fleet.post(fleet.upload("many.zip", (tmp_path / "many.zip").read_bytes()), quality=True)
    assert (job["result"]["succeeded"], job["result"]["artifact"]) == (600, "items.jsonl")
    lines = httpx.get(job["artifacts"][0]["url"], follow_redirects=True).text.splitlines()
    assert [json.loads(line)["result"]["top_class"] for line in lines] == ["red", "green"] * 300

    items = fleet.door.http.get(f"/api/v1/jobs/{job['id']}/items", params={"first": 598}).text.splitlines()
    assert [json.loads(line)["index"] for line in items] == [598, 599]

    (tmp_path / "red.png").write_bytes(RED)
    example = [sys.executable, ROOT / "examples" / "classify.py", tmp_path / "red.png", "--model", MODEL]
    environment = {**os.environ, "FLEET_URL": fleet.door.url}
    ran = subprocess.run(example, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("red.png: red ")

    for given, code in (
        (data(b"no picture"), "not-a-picture"),
        (data(RED[:-40]), "corrupt-picture"),
        ({"url": f"{fleet.site.url}/none.png"}, "url-not-served"),
    ):
        job = fleet.post(given)
        assert (job["state"], job["error"]["code"]) == ("failed", code)
        assert job["attempt"] == 1
