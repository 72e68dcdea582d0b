"""Whatever is sent to /v1 and /embeddings, they answer in their own form, and never with a fault of ours."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.front_door import Door
from tests.support.tiny_embedder import MODEL

PATHS = ["/v1/embeddings", "/v1/embeddings", "/embeddings", "/v1/models", f"/v1/models/{MODEL}", "/embeddings/preload"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from([MODEL, f"{MODEL}@1", "nobody"]) | JSON,
        "input": st.text() | st.lists(st.text(), max_size=3) | st.lists(st.integers(-1, 20), max_size=5) | JSON,
        "encoding_format": st.sampled_from(["float", "base64"]) | JSON,
        "dimensions": st.integers() | JSON,
        "kind": st.sampled_from(["query", "passage"]) | JSON,
        "truncate": st.sampled_from(["end", "start"]) | JSON,
        "prompt": JSON,
        "user": JSON,
        "models": st.lists(st.text(max_size=4), max_size=2) | JSON,
        "more": JSON,
    },
)
BODIES = (
    st.binary(max_size=64)
    | JSON.map(lambda value: json.dumps(value).encode())
    | REQUESTS.map(lambda value: json.dumps(value).encode())
    | REQUESTS.map(lambda value: json.dumps({"model": MODEL, "input": "red", **value}).encode())
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.sampled_from(["application/json", "application/json; charset=utf-8", "text/plain"]),
        "idempotency-key": st.sampled_from(['"', "a b"]),
        "traceparent": st.sampled_from(["x", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"]),
    },
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["GET", "POST", "POST", "POST", "PUT"]),
    path=st.sampled_from(PATHS),
    body=BODIES,
    headers=HEADERS,
)
def test_it_answers_in_its_own_form(door: Door, method: str, path: str, body: bytes, headers: dict[str, Any]) -> None:
    sent = {"content-type": "application/json", **headers}
    answer = door.http.request(method, path, content=body, headers=sent)
    assert answer.status_code in (200, 400, 404, 405, 413, 415, 422), answer.text
    assert answer.headers["content-type"] == "application/json"
    if answer.status_code != 200 and path.startswith("/v1"):
        assert answer.status_code != 422
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert answer.json()["error"]["message"]
    elif answer.status_code != 200:
        assert set(answer.json()) == {"detail", "code"}
        assert answer.json()["code"].isupper()
