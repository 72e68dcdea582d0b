"""Whatever is sent to /v2, it answers in its own form, and never with a fault of ours."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.front_door import Door

PATHS = [
    "/v2/models/pair/infer",
    "/v2/models/pair/versions/1/infer",
    "/v2/models/volume/infer",
    "/v2/repository/index",
    "/v2/models/stats",
    "/v2/models/pair",
    "/v2/models/pair/config",
    "/v2/models/pair/ready",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(["name", "shape", "datatype", "data", "parameters"])
INPUTS = st.lists(st.dictionaries(NAMES, JSON | st.sampled_from(["x", "n", "FP32", [1, 2]]), max_size=5), max_size=3)
REQUESTS = st.fixed_dictionaries(
    {}, optional={"id": JSON, "inputs": INPUTS | JSON, "outputs": JSON, "parameters": JSON}
)
BODIES = (
    st.binary(max_size=64)
    | JSON.map(lambda value: json.dumps(value).encode())
    | REQUESTS.map(lambda value: json.dumps(value).encode())
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "inference-header-content-length": st.sampled_from(["0", "1", "30", "-1", "x", "99999999999"]),
        "content-encoding": st.sampled_from(["gzip", "deflate", "identity", "br", ""]),
        "accept-encoding": st.sampled_from(["gzip", "deflate", "*", "gzip;q=0", "br"]),
        "idempotency-key": st.sampled_from(["key", '"quoted"', '"']),
        "content-type": st.sampled_from(["application/json", "text/plain", "application/octet-stream"]),
    },
)


@settings(max_examples=250, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["GET", "POST", "POST", "POST", "PUT"]),
    path=st.sampled_from(PATHS),
    body=BODIES,
    headers=HEADERS,
)
def test_it_answers_in_its_own_form(door: Door, method: str, path: str, body: bytes, headers: dict[str, Any]) -> None:
    answer = door.http.request(method, path, content=body, headers=headers)
    assert answer.status_code in (200, 400, 404, 405, 413, 415), answer.text
    assert answer.headers["content-type"] == "application/json"
    if answer.status_code != 200:
        assert list(answer.json()) == ["error"]
        assert answer.json()["error"]
