"""Whatever is sent to the short form and to RunPod's routes: they answer in their own form, never with our fault."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.contracts import MediaKind, ResultKind
from tests.support.front_door import Door, card, front_door
from tests.support.servers import Servers

MODEL = "colours"
PARAMS = {"type": "object", "additionalProperties": False, "properties": {"top_k": {"type": "integer", "minimum": 1}}}
CARD = card(MODEL, task="visual-qa", accepts=MediaKind.IMAGE, returns=ResultKind.ITEMS, params_schema=PARAMS)
ASKING = card("asking", accepts=MediaKind.NONE, params_schema={"properties": {"question": {"type": "string"}}})
#: With a body, and without one that is read.
POSTED = ["/inference", "/runpod/v2/default/run", f"/runpod/v2/{MODEL}/run", f"/runpod/v2/{MODEL}/runsync?wait=0"]
PATHS = ["/inference", "/models", "/healthz", "/runpod/v2/%00/run", f"/runpod/v2/{MODEL}/requests",
         f"/runpod/v2/{MODEL}/purge-queue", "/runpod/v2/default/health", f"/runpod/v2/{MODEL}/status/0"]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
PICTURES = st.sampled_from(["aGVsbG8=", "data:image/png;base64,aGk=", "?", "", "https://10.0.0.1/", "ftp://a"]) | JSON
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model_id": st.sampled_from([MODEL, f"{MODEL}@1", "asking", "nobody", "a/b", "a@", "\0"]) | JSON,
    "task": st.sampled_from(["vqa", "visual-qa", "detection"]) | JSON,
    "model_type": st.sampled_from(["blip", "vit"]) | JSON,
    "model_source": st.sampled_from(["local", "hub", "github", "trained"]) | JSON,
    "checkpoint_url": st.sampled_from(["https://10.0.0.1/m", "https://github.com/a/b/blob/c/d"]) | JSON,
    "class_mapping": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2) | JSON,
    "image": PICTURES,
    "images": st.lists(PICTURES, max_size=3) | JSON,
    "image_url": PICTURES,
    "image_base64": PICTURES,
    "prompt": st.text(max_size=5) | JSON,
    "config": st.fixed_dictionaries({}, optional={"top_k": JSON, "question": JSON}) | JSON,
    "more": JSON,
}
#: A request that is sound, with one or two fields that may not be.
ASKED = st.lists(st.sampled_from(sorted(FIELDS)), max_size=2, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names}).map(
        lambda fields: {"model_id": MODEL, **({} if "image" in " ".join(names) else {"image": "aGVsbG8="}), **fields}
    )
)
POLICY = st.fixed_dictionaries({}, optional={"ttl": st.sampled_from([10_000]) | JSON, "lowPriority": JSON})
RUNS = st.fixed_dictionaries(
    {"input": ASKED | ASKED | JSON},
    optional={"webhook": st.sampled_from(["", "https://10.0.0.1/"]) | JSON, "policy": POLICY, "s3Config": JSON},
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.sampled_from(["application/json; charset=utf-8", "text/plain"]),
        "idempotency-key": st.sampled_from(['"', "a b", "key"]),
        "traceparent": st.sampled_from(["x", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"]),
    },
)
SAME = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def idle(servers: Servers) -> Iterator[Door]:
    """Nobody waits for anything: no worker is there."""
    with servers.fresh() as fresh, front_door(fresh, max_wait_s=0) as opened:
        opened.announce(CARD, ASKING)
        yield opened


@SAME
@given(path=st.sampled_from(POSTED), asked=ASKED, run=RUNS, other=st.binary(max_size=64) | JSON, headers=HEADERS,
       which=st.integers(0, 7))  # fmt: skip
def test_bodies_are_answered_in_the_form_of_the_path(
    idle: Door, path: str, asked: Any, run: Any, other: Any, headers: dict[str, str], which: int
) -> None:
    body = other if which == 0 else asked if path == "/inference" else run
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "application/json", **(headers if which < 3 else {})}
    judge(idle.http.post(path, content=content, headers=sent), path)


@SAME
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]), path=st.sampled_from(PATHS), body=st.binary(max_size=9)
)
def test_paths_are_answered_in_their_form_whatever_the_method_is(
    idle: Door, method: str, path: str, body: bytes
) -> None:
    # What else is at these paths is not of this form.
    if method == "GET" or path not in ("/models", "/healthz"):
        judge(idle.http.request(method, path, content=body), path)


def judge(answer: httpx.Response, path: str) -> None:
    assert answer.status_code in (200, 400, 404, 405, 409, 413, 415, 422, 503, 504), answer.text
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    if path.startswith("/runpod"):
        assert answer.status_code not in (409, 415, 422, 504)
        assert answer.status_code == 200 or set(told) == {"error", "code"}
    elif answer.status_code != 200:
        assert set(told) == {"detail", "code"}
        assert told["detail"]
        assert told["code"].isupper()
