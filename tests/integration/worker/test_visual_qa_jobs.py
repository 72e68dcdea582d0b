"""Questions about pictures through the front door and a real worker, with the model that ships."""

import base64
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx

from fleet.settings import Settings
from tests.support.blips import SAMPLES, SHIPPED
from tests.support.fleet_of_one import ROOT, worker_process
from tests.support.front_door import front_door
from tests.support.house import house, worker_folder
from tests.support.waiting import eventually

MODEL = "shapes-vqa"


def data(name: str) -> dict[str, str]:
    content = (SHIPPED / "example" / name).read_bytes()
    return {"data": f"data:image/png;base64,{base64.b64encode(content).decode()}", "name": name}


def test_pictures_are_asked_and_described(settings: Settings, tmp_path: Path) -> None:
    """One fleet for all of it: a worker takes seconds to start."""
    places = worker_folder(tmp_path)
    (tmp_path / "models" / MODEL).symlink_to(SHIPPED, target_is_directory=True)
    worker = worker_process(settings, tmp_path / "worker", **places)
    with front_door(settings, max_wait_s=60) as door, house(settings) as home, worker:
        eventually(door.core.catalogue.workers)

        def post(*inputs: dict[str, Any], model: str = MODEL, **params: Any) -> dict[str, Any]:
            body = {"model": model, "inputs": list(inputs), "params": params}
            answer = httpx.post(f"{door.url}/api/v1/jobs", json=body, headers={"Prefer": "wait=60"}, timeout=90)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        sample = SAMPLES[0]
        asked = [one["question"] for one in sample["questions"]]
        job = post(data(sample["image"]), question=asked)
        assert [one["answer"] for one in job["result"]["answers"]] == [one["model"] for one in sample["questions"]]
        assert {"decode", "prepare", "infer"} <= job["timings"].keys()
        assert job["ran_on"]["batch_size"] >= 2, "questions of the same length ran together"

        assert post(data(sample["image"]))["result"]["answer"] == sample["model_caption"]
        said = post(data(sample["image"]), kind="caption", prompt="this is", num_beams=3)["result"]
        assert (said["answer"], said["search"]) == ("this is a red triangle", "beam")

        files = {path.name: path.read_bytes() for path in (SHIPPED / "1").iterdir() if "caption" not in path.name}
        brought = home.ask("brought", home.upload(files), manifest={"task": "visual-qa", "lane": "interactive"})
        assert (row := home.wait(brought)).state == "ready", row.error
        job = post(data(sample["image"]), model="brought", question=asked[0])
        assert job["result"]["answer"] == sample["questions"][0]["model"]

        archive = tmp_path / "samples.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            for path in sorted((SHIPPED / "example").glob("*.png")):
                packed.write(path, path.name)
        ticket = door.http.post("/api/v1/uploads", json={"name": "samples.zip", "size": archive.stat().st_size}).json()
        door.http.put(ticket["url"], content=archive.read_bytes()).raise_for_status()
        many = post({"upload": ticket["id"]}, question="what is in the image?")["result"]
        assert (many["count"], many["succeeded"]) == (20, 20)
        told = {item["name"]: item["result"]["answer"] for item in many["items"]}
        assert told == {sample["image"]: sample["questions"][-1]["model"] for sample in SAMPLES}

        long = post(data(sample["image"]), question="what " * 100)
        assert (long["state"], long["error"]["code"], long["error"]["facts"]["pointer"]) == (
            "failed",
            "prompt-too-long",
            "#/params/question",
        )

        raw = door.http.post(
            f"/v2/models/{MODEL}/infer",
            json={"inputs": [{"name": "pixel_values", "datatype": "FP32", "shape": [1], "data": [0.0]}]},
        )
        assert raw.status_code == 400
        assert "tensors" in raw.json()["error"]

        example = [sys.executable, ROOT / "examples" / "ask_a_picture.py"]
        environment = {**os.environ, "FLEET_URL": door.url}
        ran = subprocess.run(example, capture_output=True, text=True, env=environment, check=False)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.endswith("89 of 94 answers are right\n"), ran.stdout
