"""/v2 without a worker: whatever is wrong is said as Triton says it, {"error": text}, with Triton's statuses."""

import gzip
import zlib
from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from fleet.catalogue import ModelState
from tests.support.front_door import Door, front_door, worker_row
from tests.support.servers import Servers
from tests.support.tensor_cards import pair

KEY = "0123456789abcdef-of-a-test"
INFER = "/v2/models/pair/infer"
GIVEN = {
    "inputs": [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
        {"name": "n", "shape": [1], "datatype": "INT32", "data": [3]},
    ]
}


def refusal(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert answer.headers["x-request-id"]
    return str(answer.json()["error"])


DEEP = b"[" * 1000 + b"]" * 1000
DEEP_ELEMENT = b'{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, %s]}' % DEEP
MANY_DIMENSIONS = b'{"name": "x", "shape": [1%s], "datatype": "FP32", "data": [1]}' % (b", 1" * 64)


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v2/nothing", 404, "there is nothing at /v2/nothing"),
        ("GET", "/v2/", 404, "there is nothing at /v2/"),
        ("GET", "/v2/models", 404, "there is nothing at /v2/models"),
        ("GET", "/v2/models/pair/", 404, "there is nothing"),
        ("GET", "/v2/models/a%2Fb", 404, "there is nothing"),
        ("GET", "/v2/models/nobody", 404, "there is no model 'nobody'; known models: pair, volume"),
        ("GET", "/v2/models/no%20body%00", 404, "NUL"),
        ("GET", "/v2/models/pair@prod", 404, "has no alias 'prod'"),
        ("GET", "/v2/models/pair/versions/2", 404, "there is no model 'pair' in version 2"),
        ("GET", "/v2/models/pair/versions/0", 404, "versions are whole numbers from 1"),
        ("GET", "/v2/models/pair/versions/x", 404, "versions are whole numbers from 1"),
        ("GET", f"/v2/models/pair/versions/{'9' * 400}", 404, "versions are whole numbers from 1"),
        ("GET", "/v2/models/nobody/ready", 404, "nobody"),
        ("GET", "/v2/models/nobody/config", 404, "nobody"),
        ("GET", "/v2/models/nobody/stats", 404, "nobody"),
        ("POST", "/v2/models/nobody/infer", 404, "nobody"),
        ("POST", "/v2/repository/models/nobody/load", 404, "nobody"),
        ("POST", "/v2/repository/models/nobody/unload", 404, "nobody"),
        ("POST", "/v2", 405, "POST is not possible at /v2: use GET"),
        ("DELETE", "/v2/health/live", 405, "use GET"),
        ("GET", INFER, 405, "use POST"),
        ("PUT", "/v2/models/stats", 405, "use GET"),
        ("GET", "/v2/repository/index", 405, "use POST"),
        ("POST", "/v2/repository/hub/index", 501, "repositories have no names"),
        ("POST", "/v2/repository/hub/models/pair/load", 501, "repositories have no names"),
        ("GET", "/v2/systemsharedmemory/status", 501, "shared memory is not possible"),
        ("POST", "/v2/cudasharedmemory/region/r/register", 501, "shared memory is not possible"),
        ("GET", "/v2/trace/setting", 501, "OpenTelemetry"),
        ("POST", "/v2/models/pair/trace/setting", 501, "OpenTelemetry"),
        ("GET", "/v2/logging", 501, "LOG_LEVEL"),
        ("POST", "/v2/models/pair/generate", 501, "use `infer`"),
        ("POST", "/v2/models/pair/versions/1/generate_stream", 501, "use `infer`"),
    ],
)
def test_what_is_not_there_is_told_as_triton_does(door: Door, method: str, path: str, status: int, said: str) -> None:
    answer = door.http.request(method, path)
    assert said in refusal(answer, status)
    assert status != 405 or said.endswith(answer.headers["allow"])


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (INFER, b"", "not JSON"),
        (INFER, b"{}", "inputs: "),
        (INFER, b'{"inputs": []}', "input 'x' is missing"),
        ("/v2/models/volume/infer", b'{"inputs": []}', "takes whole files and no tensors"),
        ("/v2/repository/index", b"[]", "must be a JSON object"),
        ("/v2/repository/index", b"{", "not JSON"),
        ("/v2/repository/index", b'{"ready": 1}', "must be true or false"),
        ("/v2/repository/models/pair/load", b'{"parameters": 1}', "must be an object"),
        ("/v2/repository/models/pair/load", b'{"parameters": {"what": 1}}', "'what' is not known here"),
        ("/v2/repository/models/pair/load", b'{"parameters": {"config": {}}}', "must be a string that holds JSON"),
        ("/v2/repository/models/pair/load", b'{"parameters": {"config": "{"}}', "'config' is not JSON"),
        ("/v2/repository/models/pair/load", b'{"parameters": {"config": "[]"}}', "must hold a JSON object"),
        (
            "/v2/repository/models/pair/load",
            b'{"parameters": {"config": "{\\"name\\": \\"other\\"}"}}',
            "is of the model 'other'",
        ),
        (
            "/v2/repository/models/pair/load",
            b'{"parameters": {"config": "{}", "file:1/model.onnx": "AAAA"}}',
            "POST /api/v1/models/upload",
        ),
        ("/v2/repository/models/pair/load", b'{"parameters": {"version": true}}', "'version' must be a number"),
        ("/v2/repository/models/pair/unload", b'{"parameters": {"config": "{}"}}', "'config' is not known here"),
        # Deeper than Python's own stack, and not than what the parser takes.
        (INFER, b'{"inputs": [%s]}' % DEEP_ELEMENT, "must be a number"),
        ("/v2/repository/index", b'{"ready": %s}' % DEEP, "must be true or false"),
        ("/v2/repository/models/pair/load", b'{"parameters": {"version": %s}}' % DEEP, "'version' must be a number"),
        ("/v2/repository/models/pair/load", b'{"parameters": {"config": "{\\"a\\":%s}"}}' % DEEP, "nested 64 deep"),
        (INFER, b'{"inputs": [%s]}' % MANY_DIMENSIONS, "inputs.0.shape: List should have at most 64"),
    ],
)
def test_what_is_wrong_in_a_body_is_400(door: Door, path: str, body: bytes, said: str) -> None:
    assert said in refusal(door.http.post(path, content=body), 400)


@pytest.mark.parametrize("version", ["7", "x"])
def test_a_version_that_is_not_there_cannot_be_loaded(door: Door, version: str) -> None:
    answer = door.http.post("/v2/repository/models/pair/load", json={"parameters": {"version": version}})
    assert "version" in refusal(answer, 404)


def test_compressed_bodies_are_inflated_no_further_than_bodies_may_be(door: Door) -> None:
    most = door.core.settings.max_body_bytes + 1024 * 1024
    for coding, squeeze in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        answer = door.http.post(INFER, content=squeeze(bytes(most + 1)), headers={"content-encoding": coding})
        assert f"inflates to more than {most} bytes" in refusal(answer, 413)
        whole = squeeze(b"{}")
        sent = {"content-encoding": coding}
        assert "inputs: " in refusal(door.http.post(INFER, content=whole, headers=sent), 400)
        assert "ends too early" in refusal(door.http.post(INFER, content=whole[:-3], headers=sent), 400)
        assert "bytes follow" in refusal(door.http.post(INFER, content=whole + b"x", headers=sent), 400)
        assert "no whole" in refusal(door.http.post(INFER, content=b"plain text", headers=sent), 400)
    answer = door.http.post(INFER, content=b"x", headers={"content-encoding": "br"})
    assert "'br' is not known here" in refusal(answer, 415)


def test_a_body_is_as_large_as_bodies_may_be(door: Door) -> None:
    most = door.core.settings.max_body_bytes + 1024 * 1024
    assert "larger than" in refusal(door.http.post(INFER, content=bytes(most + 1)), 413)

    def pieces() -> Iterator[bytes]:
        for _ in range(most // 65536 + 1):
            yield bytes(65536)

    assert "larger than" in refusal(door.http.post(INFER, content=pieces()), 413)


def test_without_a_worker_it_is_503_and_when_to_come_back(servers: Servers) -> None:
    with servers.fresh() as settings, front_door(settings) as lonely:
        lonely.announce(pair())
        answer = lonely.http.post(INFER, json=GIVEN)
        assert "no live worker holds it" in refusal(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        assert "UNAVAILABLE: no live worker" in refusal(lonely.http.get("/v2/models/pair/ready"), 400)
        answer = lonely.http.post("/v2/repository/models/pair/load")
        assert "failed to load 'pair/1': no live worker can serve it" in refusal(answer, 503)
        assert lonely.http.get("/api/v1/jobs").json()["jobs"] == []
        # What every worker that has it failed to load is not tried with a job.
        states = {"pair/1": ModelState(state="UNAVAILABLE", reason="the graph is damaged")}
        lonely.core.catalogue.announce_worker(worker_row(models=["pair/1"], model_states=states))
        assert "the graph is damaged" in refusal(lonely.http.get("/v2/models/pair/ready"), 400)


def test_a_key_is_asked_for_but_not_for_health(servers: Servers) -> None:
    keys = SecretStr(f"somebody:{KEY}")
    with servers.fresh(api_keys=keys) as settings, front_door(settings) as guarded:
        assert guarded.http.get("/v2/health/live").json() == {"live": True}
        assert guarded.http.get("/v2/health/ready").status_code == 200
        for method, path in (("GET", "/v2"), ("POST", INFER), ("GET", "/v2/nothing"), ("POST", "/v2/repository/index")):
            answer = guarded.http.request(method, path)
            assert "an API key is needed" in refusal(answer, 401)
            assert answer.headers["www-authenticate"] == 'Bearer realm="fleet"'
        answer = guarded.http.get("/v2", headers={"Authorization": f"Bearer {KEY}"})
        assert answer.json()["name"] == "fleet"
