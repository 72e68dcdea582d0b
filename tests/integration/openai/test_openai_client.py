"""OpenAI's own Python client, sync and asyncio, against a running fleet: nothing but its address is changed."""

import asyncio
import base64
import struct
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

from tests.support.front_door import Door
from tests.support.tiny_embedder import MODEL, WIDTH, expected, ids_of, unit

TEXTS = ["the red cat sleeps", "bird", "the dog runs", "Blue  Bird"]


@pytest.fixture
def client(door: Door) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{door.url}/v1", api_key="none needed", max_retries=0) as opened:
        yield opened


def test_one_text_and_many_become_vectors_in_their_order(client: openai.OpenAI) -> None:
    for given in (TEXTS[0], TEXTS):
        texts = [given] if isinstance(given, str) else given
        made = client.embeddings.create(model=MODEL, input=given)
        assert [item.index for item in made.data] == list(range(len(texts)))
        assert {item.object for item in made.data} == {"embedding"}
        np.testing.assert_allclose([item.embedding for item in made.data], [expected(t) for t in texts], atol=1e-6)
        tokens = sum(len(ids_of(text)) for text in texts)
        assert (made.object, made.model) == ("list", MODEL)
        assert (made.usage.prompt_tokens, made.usage.total_tokens) == (tokens, tokens)


def test_the_client_asks_for_base64_by_itself_and_its_user_sees_numbers(door: Door) -> None:
    sent: list[bytes] = []
    with httpx.Client(event_hooks={"request": [lambda asked: sent.append(asked.content)]}, trust_env=False) as http:
        with openai.OpenAI(base_url=f"{door.url}/v1", api_key="-", max_retries=0, http_client=http) as client:
            made = client.embeddings.create(model=MODEL, input="bird")
    assert b'"encoding_format":"base64"' in sent[0]
    assert isinstance(made.data[0].embedding[0], float)


def test_floats_and_base64_are_the_same_numbers(client: openai.OpenAI) -> None:
    numbers = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
    coded = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="base64")
    for told, packed in zip(numbers.data, coded.data, strict=True):
        assert isinstance(packed.embedding, str)
        unpacked = struct.unpack(f"<{WIDTH}f", base64.b64decode(packed.embedding))
        assert list(unpacked) == told.embedding


def test_token_ids_are_fed_as_they_are(client: openai.OpenAI) -> None:
    ids = [ids_of(text) for text in TEXTS]
    for given, count in ((ids, len(ids)), (ids[0], 1)):
        made = client.embeddings.create(model=MODEL, input=given)
        np.testing.assert_allclose(
            [item.embedding for item in made.data], [expected(t) for t in TEXTS[:count]], atol=1e-6
        )
        assert made.usage.prompt_tokens == sum(map(len, ids[:count]))


def test_vectors_are_cut_and_made_one_unit_long_again(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model=MODEL, input=TEXTS, dimensions=4, user="somebody")
    np.testing.assert_allclose(
        [item.embedding for item in made.data], [unit(expected(t)[:4]) for t in TEXTS], atol=1e-6
    )


def test_fleets_own_members_go_into_the_extra_body(client: openai.OpenAI) -> None:
    own = {"kind": "query", "truncate": "end", "priority": "high"}
    made = client.embeddings.create(model=MODEL, input=["bird"], extra_body=own)
    np.testing.assert_allclose(made.data[0].embedding, expected("query : bird"), atol=1e-6)
    long = client.embeddings.create(model=MODEL, input="red " * 40, extra_body={"truncate": "end"})
    assert long.usage.prompt_tokens == 12


def test_what_is_not_known_is_passed_over_and_named(client: openai.OpenAI, door: Door) -> None:
    own = {"modality": "text", "müll": 1, "priority": "urgent"}
    answer = client.embeddings.with_raw_response.create(model=f"{MODEL}@1", input="bird", extra_body=own)
    assert answer.headers["fleet-ignored"] == "modality"
    assert answer.headers["fleet-model"] == f"{MODEL}@1"
    assert answer.parse().model == f"{MODEL}@1"
    job = door.core.jobs.get(door.id(answer.headers["fleet-job-id"]))
    assert (job.model, job.version, job.priority.name, job.task) == (MODEL, 1, "URGENT", "text-embedding")


def test_a_request_keeps_the_id_that_it_came_with(client: openai.OpenAI) -> None:
    sent = {"x-request-id": "mine-1"}
    answer = client.embeddings.with_raw_response.create(model=MODEL, input="bird", extra_headers=sent)
    assert answer.request_id == "mine-1"


def test_a_text_may_hold_any_character(client: openai.OpenAI) -> None:
    odd = ["bird\0", "\x1b", "\u2028", "😀", " ", "a" * 4000]
    made = client.embeddings.create(model=MODEL, input=odd)
    np.testing.assert_allclose(np.linalg.norm([item.embedding for item in made.data], axis=1), 1, atol=1e-6)


def test_many_texts_of_one_request_come_back_in_order(client: openai.OpenAI) -> None:
    words = ["red", "green", "blue", "cat", "dog", "bird"]
    texts = [" ".join(words[(n // 6**place) % 6] for place in range(1 + n % 5)) for n in range(2048)]
    made = client.embeddings.create(model=MODEL, input=texts)
    np.testing.assert_allclose([item.embedding for item in made.data], [expected(text) for text in texts], atol=1e-6)
    assert made.usage.prompt_tokens == sum(len(ids_of(text)) for text in texts)


def test_asyncio_and_many_at_once(door: Door) -> None:
    async def ask() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key="none needed", max_retries=0) as client:
            asked = [client.embeddings.create(model=MODEL, input=TEXTS[n % len(TEXTS)]) for n in range(24)]
            return [made.data[0].embedding for made in await asyncio.gather(*asked)]

    vectors = asyncio.run(ask())
    np.testing.assert_allclose(vectors, [expected(TEXTS[n % len(TEXTS)]) for n in range(24)], atol=1e-6)


def test_models_are_listed_and_described(client: openai.OpenAI, door: Door) -> None:
    door.core.models.records.set_alias(MODEL, "prod", 1)
    listed = client.models.list().data
    assert [model.id for model in listed] == [MODEL, f"{MODEL}@prod"]
    for model in (*listed, client.models.retrieve(f"{MODEL}@1")):
        assert (model.object, model.owned_by) == ("model", "fleet")
        assert model.created > 1_600_000_000
    assert client.models.retrieve(f"{MODEL}@1").id == f"{MODEL}@1"
    assert client.embeddings.create(model=f"{MODEL}@prod", input="bird").model == f"{MODEL}@prod"
