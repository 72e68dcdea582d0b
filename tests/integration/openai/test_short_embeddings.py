"""/embeddings: the same request and answer, errors as {"detail", "code"}, and which models lie in memory."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.embedding_stack import embedding_stack
from tests.support.front_door import Door, card, front_door
from tests.support.servers import Servers
from tests.support.tiny_embedder import MAX_TOKENS, MODEL, expected
from tests.support.waiting import eventually


def refusal(answer: httpx.Response) -> tuple[int, str]:
    assert set(answer.json()) == {"detail", "code"}
    assert answer.json()["detail"]
    return answer.status_code, answer.json()["code"]


def test_the_answer_is_that_of_v1(door: Door) -> None:
    body = {"model": MODEL, "input": ["red", "the blue bird"]}
    short, long = (door.http.post(path, json=body) for path in ("/embeddings", "/v1/embeddings"))
    assert short.json() == long.json()
    vectors = [item["embedding"] for item in short.json()["data"]]
    np.testing.assert_allclose(vectors, [expected("red"), expected("the blue bird")], atol=1e-6)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "", {"model": "nobody", "input": "red"}, 404, "NOT_FOUND"),
        ("POST", "", {"model": MODEL}, 422, "VALIDATION_ERROR"),
        ("POST", "", {"model": MODEL, "input": ""}, 422, "VALIDATION_ERROR"),
        ("POST", "", {"model": MODEL, "input": "red " * MAX_TOKENS}, 422, "VALIDATION_ERROR"),
        ("POST", "", {"model": MODEL, "input": "red", "dimensions": 5}, 422, "VALIDATION_ERROR"),
        ("POST", "", [], 400, "VALIDATION_ERROR"),
        ("GET", "", None, 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/nothing", None, 404, "NOT_FOUND"),
        ("GET", "/counter/nobody", None, 404, "NOT_FOUND"),
        ("GET", "/counter/%00", None, 404, "NOT_FOUND"),
        ("GET", "/preload", None, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/preload", {"models": ["nobody"]}, 404, "NOT_FOUND"),
        ("POST", "/preload", {"models": "nobody"}, 422, "VALIDATION_ERROR"),
        ("POST", "/preload", {"max_models": 0}, 422, "VALIDATION_ERROR"),
        ("POST", "/preload", {"model": []}, 422, "VALIDATION_ERROR"),
        ("POST", "/preload", [], 400, "VALIDATION_ERROR"),
    ],
)
def test_errors_have_the_short_form(door: Door, method: str, path: str, body: Any, status: int, code: str) -> None:
    assert refusal(door.http.request(method, f"/embeddings{path}", json=body)) == (status, code)


def test_a_model_is_preloaded_seen_counted_and_sent_away(servers: Servers, tmp_path: Path) -> None:
    with servers.fresh() as settings, embedding_stack(settings, tmp_path) as door:
        assert door.http.get("/embeddings/cache/status").json()["count"] == 0
        door.announce(card("other", task="segmentation"))
        loaded = door.http.post("/embeddings/preload", json={"models": [], "max_models": 5}).json()
        assert loaded["count"] == 1
        (model,) = loaded["models"]
        assert (model["model"], model["version"], model["loaded"], model["preloaded"]) == (MODEL, 1, True, True)
        assert [worker["worker"] for worker in model["workers"]] == ["only"]
        assert door.http.get("/embeddings/cache/status").json()["count"] == 1

        assert door.http.get(f"/embeddings/counter/{MODEL}").json()["jobs"] == 0
        asked = {"model": MODEL, "input": ["red", "green", "blue"]}
        assert door.http.post("/embeddings", json=asked).status_code == 200
        eventually(lambda: door.http.get(f"/embeddings/counter/{MODEL}@1").json()["jobs"] == 1)
        counted = door.http.get(f"/embeddings/counter/{MODEL}").json()
        assert counted["count"] >= 3
        assert (counted["model"], counted["version"], counted["failed"]) == (MODEL, None, 0)

        cleared = door.http.post("/embeddings/cache/clear").json()
        assert cleared == {"cleared": [{"model": MODEL, "version": 1}], "count": 1}
        status = door.http.get("/embeddings/cache/status").json()
        assert (status["count"], status["memory_bytes"]) == (0, 0)
        assert door.http.post("/embeddings/cache/clear").json()["count"] == 0
        # It was not taken out of service: the next request loads it again.
        eventually(lambda: door.http.post("/embeddings", json=asked).status_code == 200)
        assert not any(model["preloaded"] for model in door.http.get("/embeddings/cache/status").json()["models"])


def test_a_front_door_that_dies_while_it_clears_leaves_the_model_in_service(door: Door) -> None:
    asked = {"model": MODEL, "input": "red"}
    assert door.http.post("/embeddings", json=asked).status_code == 200
    eventually(lambda: door.http.get("/embeddings/cache/status").json()["count"] == 1)
    # The word of a clear that never came to its end.
    door.core.models.records.desire(MODEL, 1, "evicted")
    eventually(lambda: door.http.get("/embeddings/cache/status").json()["count"] == 0)
    assert door.http.post("/embeddings", json=asked).status_code == 200
    eventually(lambda: door.http.get("/embeddings/cache/status").json()["count"] == 1)
    assert door.http.post("/embeddings/cache/clear").json()["count"] == 1
    assert not door.core.models.records.desires()


def test_what_was_taken_out_of_service_stays_so(servers: Servers) -> None:
    with servers.fresh() as settings, front_door(settings) as door:
        door.announce(card(MODEL))
        door.core.models.records.desire(MODEL, 1, "unloaded")
        assert door.http.post("/embeddings/cache/clear").json()["count"] == 0
        assert door.core.models.records.desires()[0].desire == "unloaded"
        assert door.http.post("/embeddings/preload", json={}).json() == {"models": [], "count": 0}
        assert refusal(door.http.post("/embeddings", json={"model": MODEL, "input": "red"})) == (503, "UNAVAILABLE")


def test_a_model_that_does_not_fit_is_a_memory_error_and_not_tried_again(servers: Servers, tmp_path: Path) -> None:
    small = {"CACHE_RAM_GB": "0.0000001"}
    with servers.fresh() as settings, embedding_stack(settings, tmp_path, environment=small) as door:
        asked = {"model": MODEL, "input": "red"}
        for path, body in (("preload", {"models": [MODEL]}), ("", asked)):
            answer = door.http.post(f"/embeddings/{path}".rstrip("/"), json=body)
            assert refusal(answer) == (507, "MEMORY_ERROR")
            assert "CACHE_RAM_GB" in answer.json()["detail"]
        answer = door.http.post("/v1/embeddings", json=asked)
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "memory_error")
        assert answer.headers["x-should-retry"] == "false"
