"""LangChain and LlamaIndex, as their users set them up, against a running fleet.

They are imported by the tests that need them: that takes seconds, and every run collects this module.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.front_door import Door
from tests.support.openai_page import run_page
from tests.support.tiny_embedder import MAX_TOKENS, MODEL, VOCABULARY, WIDTH, expected, hidden_of, unit

TEXTS = ["the red cat sleeps", "bird", "the dog runs"]


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """The connections of a client that does not close its own."""
    with httpx.Client(trust_env=False, timeout=60) as opened:
        yield opened


def langchain(door: Door, **settings: Any) -> Any:
    from langchain_openai import OpenAIEmbeddings

    return OpenAIEmbeddings(base_url=f"{door.url}/v1", api_key="none needed", model=MODEL, max_retries=0, **settings)


def llama_index(door: Door, **settings: Any) -> Any:
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    return OpenAILikeEmbedding(
        api_base=f"{door.url}/v1", api_key="none needed", model_name=MODEL, max_retries=0, **settings
    )


def close_to(vectors: Any, wanted: Any) -> None:
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)


def test_langchain_embeds_documents_and_a_query(door: Door, http: httpx.Client) -> None:
    made = langchain(door, check_embedding_ctx_length=False, chunk_size=2, http_client=http)
    close_to(made.embed_documents(TEXTS), [expected(text) for text in TEXTS])
    close_to(made.embed_query("bird"), expected("bird"))

    async def ask() -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as opened:
            made = langchain(door, check_embedding_ctx_length=False, http_async_client=opened)
            return await made.aembed_documents(TEXTS)

    close_to(asyncio.run(ask()), [expected(text) for text in TEXTS])


def test_langchain_asks_for_dimensions(door: Door, http: httpx.Client) -> None:
    made = langchain(door, check_embedding_ctx_length=False, dimensions=4, http_client=http)
    close_to(made.embed_query("bird"), unit(expected("bird")[:4]))


def bytes_of(name: str) -> Any:
    """An encoding of OpenAI's kind, without the download of one: a byte is a token."""
    import tiktoken

    ranks = {bytes([byte]): byte for byte in range(256)}
    return tiktoken.Encoding(name, pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={})


def test_langchain_usually_sends_token_ids_which_are_those_of_another_vocabulary(
    door: Door, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openai
    import tiktoken

    monkeypatch.setattr(tiktoken, "get_encoding", bytes_of)
    monkeypatch.setattr(tiktoken, "encoding_for_model", bytes_of)
    usual = langchain(door, http_client=http)
    assert ord("c") >= len(VOCABULARY)
    with pytest.raises(openai.BadRequestError, match="not in the model's vocabulary") as told:
        usual.embed_documents(["cat"])
    assert (told.value.param, told.value.code) == ("input", "token_id_invalid")
    # Ids that this model has, too, are fed as they are: here a tab and a line's end.
    close_to(usual.embed_query("\t\n"), unit(hidden_of([9, 10]).mean(axis=0)))


def test_llama_index_embeds_texts_and_a_query(door: Door, http: httpx.Client) -> None:
    made = llama_index(door, embed_batch_size=2, http_client=http)
    close_to(made.get_text_embedding_batch(TEXTS), [expected(text) for text in TEXTS])
    close_to(made.get_query_embedding("bird"), expected("bird"))
    assert len(llama_index(door, dimensions=4, http_client=http).get_text_embedding("bird")) == 4 < WIDTH

    async def ask() -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as opened:
            return await llama_index(door, async_http_client=opened).aget_text_embedding_batch(TEXTS)

    close_to(asyncio.run(ask()), [expected(text) for text in TEXTS])


def test_their_users_meet_the_errors_of_openais_client(door: Door, http: httpx.Client) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as told:
        langchain(door, check_embedding_ctx_length=False, http_client=http).embed_query("red " * MAX_TOKENS)
    assert told.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as told:
        llama_index(door, http_client=http).get_text_embedding("red " * MAX_TOKENS)
    assert told.value.param == "input"


@pytest.mark.parametrize("library", ["OpenAIEmbeddings", "OpenAILikeEmbedding"])
def test_the_python_of_the_page_runs(door: Door, http: httpx.Client, library: str) -> None:
    made = run_page(door, library, http_client=http)
    close_to(made["vectors"], [expected("a red cat"), expected("a green bird")])
