"""A body becomes a request, and vectors become an answer."""

import base64
import struct

import orjson
import pytest

from api.embedding_calls import Embedded
from api.openai.request import EmbeddingRequest, read_request
from api.openai.response import answer
from fleet.contracts import PriorityName
from fleet.embeddings import EmbeddingParams
from fleet.errors import MalformedRequest, NotFound, ValidationFailed
from fleet.ids import new_id

ROWS = [[0.6, 0.8], [0.1, -1.5]]


def read(**members: object) -> EmbeddingRequest:
    return read_request(orjson.dumps({"model": "m", "input": "red", **members}))


def test_what_is_not_said_is_what_openai_says() -> None:
    asked = read()
    assert asked == EmbeddingRequest("m", ["red"], EmbeddingParams(), PriorityName.NORMAL, base64=False, ignored=[])
    assert read(encoding_format=None, dimensions=None, user=None) == asked
    assert read(encoding_format="base64").base64


def test_everything_that_can_be_said() -> None:
    asked = read(
        model="m@prod", input=[[1, 2]], dimensions=8, kind="query", prompt="p", truncate="end", priority="low", user="u"
    )
    assert (asked.model, asked.texts, asked.priority) == ("m@prod", [[1, 2]], PriorityName.LOW)
    assert asked.params == EmbeddingParams(dimensions=8, kind="query", prompt="p", truncate="end")


def test_other_members_are_named_and_passed_over() -> None:
    assert read(modality="text", first=3, count=1).ignored == ["count", "first", "modality"]


def test_every_fault_of_a_body_is_told() -> None:
    with pytest.raises(ValidationFailed) as told:
        read(dimensions=True, user=3)
    assert [fault["pointer"] for fault in told.value.errors] == ["#/dimensions", "#/user"]
    assert told.value.message.startswith("`dimensions`: ")


@pytest.mark.parametrize("item", ["red", [7]])
def test_more_texts_than_any_model_takes_are_refused_before_they_are_looked_at(item: object) -> None:
    assert len(read(input=[item] * 65_536).texts) == 65_536
    with pytest.raises(ValidationFailed) as told:
        read(input=[item] * 65_537)
    assert (told.value.code, told.value.errors[0]["pointer"]) == ("too-many-texts", "#/input")
    # These are the tokens of one text.
    assert len(read(input=[7] * 70_000).texts) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b'{"input": "\xff"}', b'{"input": 1e999}', b"null"])
def test_what_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read_request(body)


@pytest.mark.parametrize("model", ["", "a/b", "a b", "m@", "m@0", "m@1.5", "é", "a" * 129])
def test_what_no_model_is_called_is_not_found(model: str) -> None:
    with pytest.raises(NotFound, match="there is no model"):
        read(model=model)


def embedded() -> Embedded:
    vectors = memoryview(struct.pack("<4f", *ROWS[0], *ROWS[1]))
    return Embedded("m", 3, 2, 2, 7, [3, 4], vectors, [new_id(), new_id()])


def test_vectors_as_base64_are_little_endian_float32() -> None:
    told = orjson.loads(answer(read(encoding_format="base64"), embedded()).body)
    assert told["data"][0] == {"object": "embedding", "index": 0, "embedding": "mpkZP83MTD8="}
    assert [list(struct.unpack("<2f", base64.b64decode(item["embedding"]))) for item in told["data"]] == [
        pytest.approx(row) for row in ROWS
    ]


def test_vectors_as_numbers_read_back_as_the_same_float32() -> None:
    told = orjson.loads(answer(read(), embedded()).body)
    assert [struct.pack("<2f", *item["embedding"]) for item in told["data"]] == [
        struct.pack("<2f", *row) for row in ROWS
    ]
    assert (told["object"], told["model"]) == ("list", "m")
    assert [item["index"] for item in told["data"]] == [0, 1]
    assert told["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


def test_the_headers_name_jobs_and_version_and_never_what_a_caller_wrote() -> None:
    answered = embedded()
    made = answer(read(**{"ok_1": 1, "a\nb": 1, "é": 1, "x" * 99: 1}), answered)
    assert made.headers["fleet-model"] == "m@3"
    assert made.headers["fleet-job-id"] == f"{answered.jobs[0]}, {answered.jobs[1]}"
    assert made.headers["fleet-ignored"] == f"ok_1, {'x' * 32}"
    assert "fleet-ignored" not in answer(read(), answered).headers
