"""What is wrong reaches OpenAI's client as the error that it has for it, with `param` and `code`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import SecretStr

from tests.support.embedding_stack import embedding_stack
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.servers import Servers
from tests.support.tiny_embedder import MAX_TOKENS, MODEL, VOCABULARY
from tests.support.waiting import eventually

KEY = "0123456789abcdef-of-a-test"


@pytest.fixture
def client(door: Door) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{door.url}/v1", api_key="none needed", max_retries=0) as opened:
        yield opened


@pytest.mark.parametrize(
    ("body", "param", "code", "said"),
    [
        ({"input": ""}, "input", "text_empty", "the text is empty"),
        ({"input": []}, "input", "input_empty", "empty list"),
        ({"input": None}, "input", "input_missing", "no text"),
        ({"input": ["red", ""]}, "input", "text_empty", "text 1 is empty"),
        ({"input": ["red", 3]}, "input", "input_mixed", "item 1 is a number in a list of texts"),
        ({"input": [3, "red"]}, "input", "input_mixed", "not a text"),
        ({"input": [[3], "red"]}, "input", "input_mixed", "item 1 is a text"),
        ({"input": [[3], []]}, "input", "text_empty", "text 1 is an empty list"),
        ({"input": [True, False]}, "input", "input_type", "truth value"),
        ({"input": [[3, True]]}, "input", "token_id_invalid", "truth value"),
        ({"input": [3.5]}, "input", "input_type", "number"),
        ({"input": [-1]}, "input", "token_id_invalid", "-1"),
        ({"input": {"text": "red"}}, "input", "input_type", "an object"),
        ({"input": True}, "input", "input_type", "truth value"),
        ({"input": [[3, len(VOCABULARY)]]}, "input", "token_id_invalid", "not in the model's vocabulary"),
        ({"input": [10**15]}, "input", "token_id_invalid", "not in the model's vocabulary"),
        ({"input": ["red"] * 2049}, "input", "too_many_texts", "2,049 texts"),
        ({"input": "red " * MAX_TOKENS}, "input", "context_length_exceeded", f"at most {MAX_TOKENS}"),
        ({"input": [3] * (MAX_TOKENS + 1)}, "input", "context_length_exceeded", f"at most {MAX_TOKENS}"),
        ({"dimensions": 0}, "dimensions", "invalid_value", "greater than or equal to 1"),
        ({"dimensions": "4"}, "dimensions", "invalid_value", "integer"),
        ({"dimensions": True}, "dimensions", "invalid_value", "integer"),
        ({"dimensions": 5}, "dimensions", "dimensions_unsupported", "cannot have 5 dimensions"),
        ({"dimensions": 10**12}, "dimensions", "dimensions_unsupported", "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value", "'float' or 'base64'"),
        ({"user": 3}, "user", "invalid_value", "string"),
        ({"model": 3}, "model", "invalid_value", "string"),
        ({"kind": "passages"}, "kind", "invalid_value", "passage"),
        ({"prompt": "nobody's"}, "prompt", "prompt_unknown", "no prompt"),
        ({"input": [3], "kind": "query"}, "kind", "prompt_with_token_ids", "token ids"),
        ({"truncate": True}, "truncate", "invalid_value", "refuse"),
        ({"priority": "now"}, "priority", "invalid_value", "urgent"),
    ],
)
def test_a_bad_request_says_what_is_wrong_and_where(
    client: openai.OpenAI, body: dict[str, Any], param: str, code: str, said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as told:
        client.post("/embeddings", cast_to=object, body={"model": MODEL, "input": "red", **body})
    error = told.value
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert said in error.body["message"]  # type: ignore[index]
    assert error.request_id


@pytest.mark.parametrize("missing", ["model", "input"])
def test_what_is_missing_is_named(client: openai.OpenAI, missing: str) -> None:
    body = {"model": MODEL, "input": "red"}
    del body[missing]
    with pytest.raises(openai.BadRequestError) as told:
        client.post("/embeddings", cast_to=object, body=body)
    assert told.value.param == missing


@pytest.mark.parametrize("model", ["nobody", "", "publisher/model", f"{MODEL}@nobody", f"{MODEL}@2", "a b", "a\0", "é"])
def test_an_unknown_model_is_not_found(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as told:
        client.embeddings.create(model=model, input="red")
    assert (told.value.param, told.value.type) == ("model", "invalid_request_error")
    assert told.value.code == ("alias_not_found" if model.endswith("@nobody") else "model_not_found")


@pytest.mark.parametrize("model", ["nobody", "publisher/model", f"{MODEL}@2", "%00", "@"])
def test_an_unknown_model_cannot_be_retrieved(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as told:
        client.models.retrieve(model)
    assert (told.value.code, told.value.type) == ("model_not_found", "invalid_request_error")


def test_a_model_that_does_something_else_makes_no_embeddings(client: openai.OpenAI, door: Door) -> None:
    door.announce(card("other", task="segmentation"))
    with pytest.raises(openai.BadRequestError) as told:
        client.embeddings.create(model="other", input="red")
    assert (told.value.param, told.value.code) == ("model", "task_mismatch")
    with pytest.raises(openai.NotFoundError, match="no embeddings"):
        client.models.retrieve("other")
    assert "other" not in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1", 404, "unknown_url"),
        ("GET", "/v1/", 404, "unknown_url"),
        ("POST", "/v1/chat/completions", 404, "unknown_url"),
        ("GET", "/v1/embeddings", 405, "method_not_allowed"),
        ("DELETE", f"/v1/models/{MODEL}", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_told_in_the_same_form(door: Door, method: str, path: str, status: int, code: str) -> None:
    answer = door.http.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == code
    assert answer.headers["x-request-id"]
    assert status != 405 or answer.headers["allow"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"", "application/json", 400, "invalid_json"),
        (b"{", "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_json"),
        (b'{"input": NaN}', "application/json", 400, "invalid_json"),
        (b'{"input": "\\ud800"}', "application/json", 400, "invalid_json"),
        (b"[" * 5000, "application/json", 400, "invalid_json"),
        (b"{}", "text/plain", 415, "unsupported_media"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_so(door: Door, content: bytes, kind: str, status: int, code: str) -> None:
    answer = door.http.post("/v1/embeddings", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_body_is_as_large_as_bodies_may_be(door: Door) -> None:
    most = door.core.settings.max_body_bytes
    answer = door.http.post("/v1/embeddings", content=bytes(most + 1), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "input_too_large")


def test_a_key_is_asked_for(servers: Servers) -> None:
    keys = SecretStr(f"somebody:{KEY}")
    with servers.fresh(api_keys=keys) as settings, front_door(settings) as guarded:
        for key in ("", "wrong"):
            with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key or "-", max_retries=0) as client:
                with pytest.raises(openai.AuthenticationError) as told:
                    client.models.list()
                assert (told.value.code, told.value.type) == ("invalid_api_key", "authentication_error")
        with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=KEY, max_retries=0) as client:
            assert client.models.list().data == []
        for path in ("/v1/nothing", "/embeddings/cache/status", "/embeddings/nothing"):
            assert guarded.http.get(path).status_code == 401


def test_too_many_waiting_is_429_and_the_client_comes_back_by_itself(servers: Servers, tmp_path: Path) -> None:
    statuses: list[int] = []
    with servers.fresh(max_waiting_jobs_per_tenant=1) as settings, embedding_stack(settings, tmp_path) as door:
        # No worker that lives can take it: it waits until it is cancelled.
        door.announce(card("absent", params_schema={}, device="gpu-only"))
        held = door.accepted(model="absent", inputs=[])
        with openai.OpenAI(base_url=f"{door.url}/v1", api_key="-", max_retries=0) as client:
            with pytest.raises(openai.RateLimitError) as told:
                client.embeddings.create(model=MODEL, input="red")
        assert (told.value.code, told.value.type) == ("rate_limit_exceeded", "rate_limit_error")
        assert int(told.value.response.headers["retry-after"]) >= 1
        assert "x-should-retry" not in told.value.response.headers

        def make_room(response: httpx.Response) -> None:
            statuses.append(response.status_code)
            if response.status_code == 429:
                door.http.post(f"/api/v1/jobs/{held['id']}/cancel")

        with httpx.Client(event_hooks={"response": [make_room]}, trust_env=False, timeout=60) as http:
            with openai.OpenAI(base_url=f"{door.url}/v1", api_key="-", max_retries=4, http_client=http) as client:
                assert len(client.embeddings.create(model=MODEL, input="red").data) == 1
        assert statuses[0] == 429
        assert statuses[-1] == 200


def test_without_a_worker_it_is_503_and_when_to_come_back(servers: Servers) -> None:
    with servers.fresh() as settings, front_door(settings) as lonely:
        lonely.announce(card(MODEL, params_schema={}))
        with openai.OpenAI(base_url=f"{lonely.url}/v1", api_key="-", max_retries=0) as client:
            with pytest.raises(openai.InternalServerError) as told:
                client.embeddings.create(model=MODEL, input="red")
        assert (told.value.status_code, told.value.code, told.value.type) == (503, "no_capable_worker", "server_error")
        assert int(told.value.response.headers["retry-after"]) >= 1


def test_who_waits_too_long_is_told_so_and_who_hangs_up_leaves_no_work(servers: Servers) -> None:
    with servers.fresh() as settings, front_door(settings, max_wait_s=1) as door:
        door.announce(card(MODEL, params_schema={}))
        door.core.catalogue.announce_worker(worker_row(models=[f"{MODEL}/1"]))
        with openai.OpenAI(base_url=f"{door.url}/v1", api_key="-", max_retries=2) as client:
            with pytest.raises(openai.InternalServerError) as told:
                client.embeddings.create(model=MODEL, input="red")
        assert (told.value.status_code, told.value.code) == (504, "expired")
        assert told.value.response.headers["x-should-retry"] == "false"
        assert len(states(door)) == 1
    with servers.fresh() as settings, front_door(settings, max_wait_s=60) as door:
        door.announce(card(MODEL, params_schema={}))
        door.core.catalogue.announce_worker(worker_row(models=[f"{MODEL}/1"]))
        with openai.OpenAI(base_url=f"{door.url}/v1", api_key="-", max_retries=0, timeout=1) as client:
            with pytest.raises(openai.APITimeoutError):
                client.embeddings.create(model=MODEL, input="red")
        eventually(lambda: states(door) == ["cancelled"])


def states(door: Door) -> list[str]:
    return [job["state"] for job in door.http.get("/api/v1/jobs").json()["jobs"]]
