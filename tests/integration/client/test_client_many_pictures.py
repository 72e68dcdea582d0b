"""Many pictures in one job, wherever they lie, with the client, the command line and the example: one fleet for all."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pytest

from fleet_client import Client, JobFailed, JobItem, ObjectPrefix
from tests.support.classifiers import MODEL, colours, make_model
from tests.support.file_server import Site
from tests.support.fleet_of_one import ROOT, worker_process
from tests.support.front_door import Door, front_door
from tests.support.pictures import encoded
from tests.support.servers import Servers
from tests.support.waiting import eventually
from worker.contract import Array


def plain(*colour: int) -> Array:
    return np.broadcast_to(np.array(colour, np.uint8), (30, 40, 3))


RED, GREEN = encoded(plain(250, 20, 10), "PNG"), encoded(plain(10, 250, 10), "PNG")


@dataclass
class Scene:
    door: Door
    site: Site
    client: Client


@pytest.fixture(scope="module")
def scene(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    make_model(folder / "models", colours(gain=20), batching={"max_batch_size": 8, "dynamic": True}, max_attempts=1)
    places = {"MODELS_PATH": str(folder / "models"), "OUTWARD_ALLOW_NETWORKS": "127.0.0.1/32"}
    site = Site({"/red.png": RED})
    reach = [ip_network("127.0.0.1/32")]
    try:
        with (
            servers.fresh() as settings,
            front_door(settings, max_wait_s=60, outward_allow_networks=reach) as door,
            worker_process(settings, folder / "worker", **places),
            Client(door.url) as client,
        ):
            eventually(door.core.catalogue.workers)
            yield Scene(door, site, client)
    finally:
        site.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of one colour each, and what is none; names that begin like places are files all the same."""
    made = tmp_path / "photos"
    (made / "deeper").mkdir(parents=True)
    (made / "b.png").write_bytes(GREEN)
    (made / "a.png").write_bytes(RED)
    (made / "deeper" / "c.png").write_bytes(RED[:-40])
    (made / "notes.txt").write_text("not a picture")
    return made


def told(items: list[JobItem]) -> list[tuple[str, str]]:
    return [(item.name, item.error.code if item.error else (item.result or {})["top_class"]) for item in items]


def lay(scene: Scene, prefix: str, *contents: bytes) -> ObjectPrefix:
    objects = scene.door.core.objects
    for number, content in enumerate(contents):
        objects.put_bytes(f"{prefix}{number:03}.png", content, media_type="image/png", name="x")
    return ObjectPrefix(objects.bucket, prefix)


def test_files_folders_and_urls_go_together_and_each_picture_has_its_answer(scene: Scene, folder: Path) -> None:
    job = scene.client.submit(None, [f"{scene.site.url}/red.png", folder, GREEN], model=MODEL)
    expected = [("red.png", "red"), ("a.png", "red"), ("b.png", "green"), ("deeper/c.png", "corrupt-picture")]
    assert told(list(job.items())) == [*expected, ("input", "green")]
    assert job.state == "succeeded"


def test_a_single_picture_is_the_only_item(scene: Scene) -> None:
    (item,) = scene.client.submit(None, [RED], model=MODEL).items()
    assert (item.index, item.name) == (0, "input")
    assert (item.result or {})["top_class"] == "red"


def test_a_job_without_items_ends_as_the_job_does(scene: Scene) -> None:
    job = scene.client.submit(None, [b"no picture"], model=MODEL)
    with pytest.raises(JobFailed, match="not a picture"):
        list(job.items())


def test_all_that_lies_under_a_prefix_is_one_job(scene: Scene) -> None:
    prefix = lay(scene, "inputs/default/many/", *[RED, GREEN, b"nothing"] * 20)
    items = list(scene.client.submit(None, [prefix], model=MODEL).items())
    assert [item.index for item in items] == list(range(60))
    assert told(items)[:3] == [
        ("inputs/default/many/000.png", "red"),
        ("inputs/default/many/001.png", "green"),
        ("inputs/default/many/002.png", "not-a-picture"),
    ]
    assert {code for _, code in told(items)[2::3]} == {"not-a-picture"}


def test_of_a_prefix_with_one_picture_the_answer_is_a_list(scene: Scene) -> None:
    job = scene.client.submit(None, [lay(scene, "inputs/default/one/", GREEN)], model=MODEL)
    assert (job.result()["count"], job.result()["items"][0]["result"]["top_class"]) == (1, "green")


def test_the_command_line_prints_each_answer_as_it_comes(scene: Scene, folder: Path) -> None:
    lay(scene, "inputs/default/cli/", RED)
    bucket = scene.door.core.objects.bucket
    places = [str(folder), f"{scene.site.url}/red.png", f"s3://{bucket}/inputs/default/cli/"]
    command = [sys.executable, "-m", "cli.main", "submit", "image-classification", "-m", MODEL, *places, "--items"]
    environment = {**os.environ, "FLEET_URL": scene.door.url}
    said = subprocess.run([*command, "-p", "top_k=1"], capture_output=True, text=True, env=environment, check=True)
    lines = said.stdout.splitlines()
    assert lines[0].startswith("a.png: red ")
    assert lines[2].startswith("deeper/c.png: ")
    assert lines[2].endswith("[corrupt-picture]")
    assert [line.split(":")[0] for line in lines] == [
        "a.png",
        "b.png",
        "deeper/c.png",
        "red.png",
        "inputs/default/cli/000.png",
    ]
    said = subprocess.run([*command, "--json"], capture_output=True, text=True, env=environment, check=True)
    assert [json.loads(line)["index"] for line in said.stdout.splitlines()] == list(range(5))


def test_the_example_of_many_pictures_runs(scene: Scene, folder: Path) -> None:
    example = [sys.executable, str(ROOT / "examples" / "many_pictures.py"), str(folder), "--model", MODEL]
    environment = {**os.environ, "FLEET_URL": scene.door.url}
    ran = subprocess.run(example, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [line.split(" ")[:2] for line in ran.stdout.splitlines()[:2]] == [["a.png:", "red"], ["b.png:", "green"]]
