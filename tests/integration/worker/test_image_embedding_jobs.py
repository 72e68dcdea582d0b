"""Pictures and texts through the front door and a real worker that has a small CLIP, towers as two graphs."""

import base64
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI

from tests.support.fleet_of_one import ROOT, worker_process
from tests.support.front_door import Door, front_door
from tests.support.image_embedders import reference, unpacked
from tests.support.pictures import encoded
from tests.support.servers import Servers
from tests.support.waiting import eventually

MODEL, WORDS = "clip-towers", "clip-text"
PHOTOGRAPHS = ROOT / "models" / "efficientnet-lite0" / "example"
SAID = reference(MODEL)


@pytest.fixture(scope="module")
def door(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("embedding")
    batching = {"max_batch_size": 8, "dynamic": True}
    unpacked(MODEL, folder / "models", batching=batching, max_attempts=1)
    text_tower(folder / "models")
    with servers.fresh() as settings:
        worker = worker_process(settings, folder / "worker", MODELS_PATH=str(folder / "models"))
        with front_door(settings, max_wait_s=60) as opened, worker:
            eventually(lambda: any(f"{WORDS}/1" in it.word.models for it in opened.core.catalogue.workers()))
            yield opened


def text_tower(repository: Path) -> None:
    """The same text tower as a model of its own, for whoever has only texts."""
    folder = unpacked(MODEL, repository / "taken")
    (folder / "1" / "text.onnx").rename(folder / "1" / "model.onnx")
    (folder / "1" / "vision.onnx").unlink()
    (folder / "model.yaml").write_text(
        "task: text-embedding\nlane: interactive\ndevice: any\npipeline: {normalize: true}\n"
    )
    folder.rename(repository / WORDS)
    (repository / "taken").rmdir()


def post(door: Door, *inputs: dict[str, Any], **params: Any) -> dict[str, Any]:
    body = {"model": MODEL, "inputs": list(inputs), "params": params}
    answer = httpx.post(f"{door.url}/api/v1/jobs", json=body, headers={"Prefer": "wait=60"}, timeout=90)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def photograph(name: str) -> dict[str, str]:
    return {"data": base64.b64encode((PHOTOGRAPHS / name).read_bytes()).decode(), "name": name}


def unit(vector: Any) -> Any:
    return np.array(vector) / np.linalg.norm(vector)


def test_a_picture_becomes_the_vector_of_its_library(door: Door) -> None:
    job = post(door, photograph("cat.jpg"))
    assert job["state"] == "succeeded", job
    expected = unit(SAID["pictures"]["cat.jpg"]["vector"])
    assert np.array(job["result"]["embedding"]) @ expected >= 0.99999
    assert {"decode", "prepare", "infer"} <= job["timings"].keys()


def test_labels_are_judged_without_training(door: Door) -> None:
    result = post(door, photograph("coffee.jpg"), labels=SAID["labels"], template=SAID["template"])["result"]
    scores = {one["class_id"]: one["confidence"] for one in result["predictions"]}
    assert [scores[at] for at in range(3)] == pytest.approx(SAID["scores"]["coffee.jpg"], abs=1e-4)
    assert result["top_class"] == SAID["labels"][int(np.argmax(SAID["scores"]["coffee.jpg"]))]


def test_texts_need_no_picture_and_lie_in_the_same_space(door: Door) -> None:
    job = post(door, texts=SAID["texts"])
    assert job["state"] == "succeeded", job
    for mine, theirs in zip(job["result"]["texts"]["embeddings"], SAID["text_vectors"], strict=True):
        assert np.array(mine) @ unit(theirs) >= 0.99999
    nothing = post(door)
    assert (nothing["state"], nothing["error"]["code"]) == ("failed", "no-pictures")


def test_the_text_tower_alone_serves_clients_of_openai(door: Door) -> None:
    client = OpenAI(base_url=f"{door.url}/v1", api_key="none", max_retries=0)
    answers = client.embeddings.create(model=WORDS, input=SAID["texts"]).data
    for answer, theirs in zip(answers, SAID["text_vectors"], strict=True):
        assert np.array(answer.embedding) @ unit(theirs) >= 0.99999


def test_a_zip_of_pictures_becomes_one_file_of_vectors(door: Door) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for shade in range(60):
            picture = np.full((40, 50, 3), 4 * shade, np.uint8)
            archive.writestr(f"{shade:02}.png", encoded(picture, "PNG"))
        archive.writestr("notes.txt", "no picture")
    given = {"data": base64.b64encode(packed.getvalue()).decode(), "name": "pictures.zip"}
    job = post(door, given, vectors="npy")
    assert (job["result"]["succeeded"], job["result"]["failed"]) == (60, 1)
    (artifact,) = (it for it in job["artifacts"] if it["name"] == "embeddings.npy")
    rows = np.load(io.BytesIO(httpx.get(artifact["url"], follow_redirects=True).content))
    assert rows.shape == (60, 12)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    by_name = {item["name"]: item.get("result", {}).get("row") for item in job["result"]["items"]}
    assert (by_name["00.png"], by_name["59.png"], by_name["notes.txt"]) == (0, 59, None)
    alone = post(door, {"data": base64.b64encode(encoded(np.full((40, 50, 3), 28, np.uint8), "PNG")).decode()})
    np.testing.assert_allclose(rows[7], alone["result"]["embedding"], atol=1e-5)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"labels": []}, "input-empty"),
        ({"labels": ["a", "a"]}, "labels-repeated"),
        ({"labels": ["a"], "template": "x"}, "template-invalid"),
        ({"texts": ["word " * 60]}, "text-too-long"),
        ({"scales": [0.5]}, "scales-unsupported"),
    ],
)
def test_what_is_wrong_with_a_request_is_told_by_its_code(door: Door, params: dict[str, Any], code: str) -> None:
    job = post(door, photograph("cat.jpg"), **params)
    assert (job["state"], job["error"]["code"], job["attempt"]) == ("failed", code, 1)


@pytest.mark.parametrize("params", [{"labels": ["a"] * 1001}, {"labels": [""]}, {"texts": "cat"}, {"scales": [9]}])
def test_what_breaks_the_schema_is_refused_at_once(door: Door, params: dict[str, Any]) -> None:
    body = {"model": MODEL, "inputs": [photograph("cat.jpg")], "params": params}
    answer = httpx.post(f"{door.url}/api/v1/jobs", json=body, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")


def test_the_example_finds_a_picture_by_itself(door: Door) -> None:
    script = [
        sys.executable,
        ROOT / "examples" / "find_pictures.py",
        "--model",
        MODEL,
        "--like",
        PHOTOGRAPHS / "cat.jpg",
    ]
    ran = subprocess.run(
        [*script, *sorted(PHOTOGRAPHS.glob("*.jpg"))],
        capture_output=True,
        text=True,
        env={**os.environ, "FLEET_URL": door.url},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0].split() == ["1.000", "cat.jpg"]
