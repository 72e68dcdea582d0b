"""Pictures in tiles through the front door and a real worker, one of them too large for what others may have."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.bright_thing import SIDE, bright_thing
from tests.support.detectors import MODEL, make_model
from tests.support.fleet_of_one import worker_process
from tests.support.front_door import Door, front_door
from tests.support.pictures import encoded
from tests.support.servers import Servers
from tests.support.waiting import eventually

THINGS = [(30, 40, 36, 50), (250, 180, 262, 190), (400, 20, 410, 31)]


@pytest.fixture(scope="module")
def door(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("tiles")
    batching = {"max_batch_size": 8, "dynamic": True, "max_delay_ms": 200}
    make_model(folder / "models", bright_thing(), batching=batching, pipeline={"family": "ultralytics-end-to-end"})
    with servers.fresh() as settings:
        more = {"MODELS_PATH": str(folder / "models"), "IMAGE_MAX_PIXELS": "20000"}
        with front_door(settings, max_wait_s=60) as opened, worker_process(settings, folder / "worker", **more):
            eventually(lambda: any(f"{MODEL}/1" in it.word.models for it in opened.core.catalogue.workers()))
            yield opened


def post(door: Door, width: int, height: int, **params: Any) -> httpx.Response:
    picture = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in THINGS:
        picture[y1:y2, x1:x2] = 255
    data = base64.b64encode(encoded(picture, "PNG")).decode()
    body = {"model": MODEL, "inputs": [{"data": data}], "params": params}
    return httpx.post(f"{door.url}/api/v1/jobs", json=body, headers={"Prefer": "wait=60"}, timeout=90)


def test_a_picture_beyond_the_limit_is_looked_at_in_tiles(door: Door) -> None:
    job = post(door, 500, 300, tiles={"size": SIDE, "whole": False}, confidence=0.6, preview=True).json()
    assert job["state"] == "succeeded", job
    result = job["result"]
    boxes = sorted(tuple(round(one["bbox"][side] * 500, 1) for side in ("x1", "x2")) for one in result["detections"])
    assert boxes == [(x1, x2) for x1, _, x2, _ in THINGS]
    assert result["looks"] == {"tiles": 60, "whole": False, "views": 1}
    assert [artifact["name"] for artifact in job["artifacts"]] == ["preview.png"]
    # Its tiles shared runs.
    assert job["ran_on"]["batch_size"] > 1


def test_without_tiles_it_is_refused(door: Door) -> None:
    job = post(door, 500, 300).json()
    assert (job["state"], job["error"]["code"]) == ("failed", "too-many-pixels")


def test_tiles_that_cannot_be_are_refused_where_they_are_said(door: Door) -> None:
    answer = post(door, 100, 100, tiles={"overlap": 1})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/params/tiles/overlap"
    job = post(door, 500, 300, tiles={"size": 16, "overlap": 0.95}).json()
    assert (job["state"], job["error"]["code"]) == ("failed", "too-many-tiles")
