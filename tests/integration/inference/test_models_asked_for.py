"""What a request that brings its model along asks of the model house: once for each source, under which name."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from api.inference.bringing import Bringing
from api.inference.request import InferenceRequest
from fleet.catalogue import Catalogue, Entry
from fleet.model_records import HousedVersion, ModelRecords
from fleet.model_source import OnHub, Trained
from tests.support.front_door import Door, card, front_door
from tests.support.servers import Servers


@pytest.fixture(scope="module")
def idle(servers: Servers) -> Iterator[Door]:
    """No worker is there to fetch anything."""
    with servers.fresh() as fresh, front_door(fresh, max_wait_s=0) as opened:
        opened.announce(card("taken"))
        yield opened


def ask(door: Door, **body: Any) -> httpx.Response:
    return door.http.post("/api/v1/inference/predict", json={"image": "aGk=", "task": "embedding", **body})


def asked_for(door: Door, **body: Any) -> str:
    """The key of the version that the request waits for."""
    answer = ask(door, **body)
    assert (answer.status_code, answer.json()["code"]) == (503, "model-importing"), answer.text
    return "{model}/{version}".format(**answer.json()["facts"])


def stored(door: Door, key: str) -> HousedVersion:
    name, _, version = key.partition("/")
    return ModelRecords(door.core.database).get(name, int(version))


def test_a_repository_of_the_hub_has_its_own_name_unless_that_is_taken(idle: Door) -> None:
    hub = {"model_source": "huggingface"}
    assert [asked_for(idle, model_id="org/dino", **hub) for _ in range(2)] == ["dino/1", "dino/1"]
    assert [asked_for(idle, model_id="other/dino", **hub) for _ in range(2)] == ["other--dino/1"] * 2
    assert asked_for(idle, model_id="org/taken", **hub) == "org--taken/1"
    found = stored(idle, "dino/1")
    assert found.source == OnHub(repository="org/dino")
    assert found.manifest == {"task": "image-embedding", "lane": "interactive"}


def test_a_file_of_github_is_asked_for_at_its_ref(idle: Door) -> None:
    url = "https://github.com/owner/nets/blob/v2/yolox.onnx"
    key = asked_for(idle, model_id="net", model_source="github", checkpoint_url=url, task=None, model_type="yolox")
    found = stored(idle, key)
    assert found.source.model_dump(exclude_none=True) == {
        "kind": "github", "repository": "owner/nets", "ref": "v2", "path": "yolox.onnx"
    }  # fmt: skip
    assert (found.manifest or {})["pipeline"] == {"family": "yolox"}


def test_many_who_ask_at_once_get_one_version_for_each_source(idle: Door) -> None:
    urls = [f"https://example.com/{name}.onnx" for name in "abc"]

    def version_of(url: str) -> tuple[str, str]:
        return url, asked_for(idle, model_id="crowd", checkpoint_url=url, class_mapping=["x", "y"])

    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(version_of, urls * 4))
    assert {url for url, _ in found} == set(urls)
    assert sorted(key for _, key in found) == ["crowd/1", "crowd/2", "crowd/3"]


def test_runpods_clients_are_told_to_come_again(idle: Door) -> None:
    given = {"model_id": "crowd", "image": "aGk=", "task": "embedding", "checkpoint_url": "https://example.com/a.onnx"}
    answer = idle.http.post("/runpod/v2/default/run", json={"input": given})
    assert (answer.status_code, answer.json()["code"]) == (503, "model-importing")
    assert int(answer.headers["retry-after"]) >= 1


def test_no_request_makes_a_version_of_a_model_of_others(idle: Door) -> None:
    """The newest version is what all get who say no number. One lies in the workers' folder, one is a tenant's."""
    theirs = Trained(checkpoint_url="https://example.com/theirs.onnx")
    ModelRecords(idle.core.database).request("theirs", None, theirs, tenant="somebody")
    for name in ("taken", "theirs"):
        answer = ask(idle, model_id=name, checkpoint_url="https://example.com/mine.onnx")
        assert (answer.status_code, answer.json()["code"]) == (422, "model-name-taken")
        assert answer.json()["errors"][0]["pointer"] == "#/model_id"
    assert asked_for(idle, model_id="theirs", checkpoint_url=theirs.checkpoint_url) == "theirs/1"


class Counting(Catalogue):
    looks = 0

    def get(self, reference: str, version: int | None = None) -> Entry:
        self.looks += 1
        return super().get(reference, version)


def test_those_who_wait_for_one_model_look_together(idle: Door) -> None:
    catalogue = Counting(idle.core.database)
    bringing = Bringing(replace(idle.core.models, catalogue=catalogue))
    asked = InferenceRequest(model_id="awaited", task="embedding", checkpoint_url="https://example.com/awaited.onnx")
    asked_for(idle, **asked.model_dump(exclude_defaults=True))

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(
            *(bringing.named(asked, "default", 0.3) for _ in range(100)), return_exceptions=True
        )

    told = asyncio.run(all_of_them())
    assert {error.code for error in told} == {"model-importing"}
    assert 1 <= catalogue.looks < len(told)
