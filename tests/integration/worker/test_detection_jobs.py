"""A photograph through the front door, a worker and a model: boxes come back over HTTP."""

import base64
from pathlib import Path

import httpx
import pytest

from fleet.settings import Settings
from tests.support.detectors import MODEL, boxes_at, make_model, saying, ultralytics_notes
from tests.support.fleet_of_one import worker_process
from tests.support.front_door import front_door
from tests.support.pictures import noise, with_orientation
from tests.support.waiting import eventually


def test_a_photograph_becomes_boxes_and_a_preview_over_http(settings: Settings, tmp_path: Path) -> None:
    rows = {0: (16, 24, 32, 40, 0.9, 1), 1: (48, 30, 70, 50, 0.6, 2), 2: (2, 30, 10, 34, 0.3, 0)}
    graph = saying(
        {"output0": boxes_at(rows, 300, 6)},
        image=("images", ["batch", 3, 64, 64]),
        shapes={"output0": ["batch", 300, 6]},
        metadata=ultralytics_notes(end2end=True),
    )
    make_model(tmp_path / "models", graph)
    environment = {"MODELS_PATH": str(tmp_path / "models"), "MODEL_CONFIDENCE_THRESHOLD": "0.5"}
    photograph = with_orientation(noise(480, 960), 6)
    with (
        front_door(settings, max_wait_s=60) as door,
        worker_process(settings, tmp_path / "worker", **environment),
    ):
        eventually(door.core.catalogue.workers)
        body = {
            "model": MODEL,
            "params": {"preview": True, "class_mapping": {"dog": "Hund"}},
            "inputs": [
                {"data": base64.b64encode(photograph).decode(), "media_type": "image/jpeg", "name": "street.jpg"}
            ],
        }
        answer = httpx.post(f"{door.url}/api/v1/jobs", json=body, headers={"Prefer": "wait=60"}, timeout=90)
        assert answer.status_code == 200, answer.text
        job = answer.json()
        assert job["state"] == "succeeded", answer.text
        result = job["result"]
        assert result["image_size"] == {"width": 960, "height": 480}
        # The cat is below what the operator wants.
        assert [(one["class_name"], one["class_id"]) for one in result["detections"]] == [("Hund", 1), ("bird", 2)]
        box = {"x1": 0.25, "y1": 0.25, "x2": 0.5, "y2": 0.75}
        assert result["detections"][0]["bbox"] == pytest.approx(box, abs=1e-6)
        assert result["detections"][1]["bbox"]["x2"] == 1.0
        preview = httpx.get(f"{door.url}/api/v1/jobs/{job['id']}/artifacts/{result['preview']}", follow_redirects=True)
        assert preview.content.startswith(b"\x89PNG")
        assert preview.headers["content-type"] == "image/png"

        wrong = httpx.post(
            f"{door.url}/api/v1/jobs",
            json=body | {"params": {"classes": ["zebra"]}},
            headers={"Prefer": "wait=60"},
            timeout=90,
        )
        error = wrong.json()["error"]
        assert (wrong.json()["state"], error["code"]) == ("failed", "class-unknown")
        assert "cat, dog, bird" in error["message"]

        # These are held against the card, before anything runs.
        for params in ({"confidence": 2}, {"classes": "dog"}, {"unknown": 1}):
            refused = httpx.post(f"{door.url}/api/v1/jobs", json=body | {"params": params})
            assert refused.status_code == 422, refused.text
