"""Vectors on their way out, as OpenAI writes them: lists of numbers, or base64 of their float32."""

import base64
import sys
from array import array
from collections.abc import Iterator

import orjson
from fastapi import Response

from api.embedding_calls import Embedded
from api.openai.request import EmbeddingRequest

#: A header has no more than so many names in it.
_NAMED = 32


def answer(asked: EmbeddingRequest, embedded: Embedded) -> Response:
    """`model` is said as it was asked for; the version that it stood for is in `fleet-model`."""
    rows = _base64(embedded) if asked.base64 else _numbers(embedded)
    document = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": asked.model,
        "usage": {"prompt_tokens": embedded.total_tokens, "total_tokens": embedded.total_tokens},
    }
    headers = {
        "fleet-model": f"{embedded.model}@{embedded.version}",
        "fleet-job-id": ", ".join(str(job) for job in embedded.jobs[:_NAMED]),
    }
    if ignored := [name for name in asked.ignored if name.isascii() and name.isidentifier()]:
        headers["fleet-ignored"] = ", ".join(name[:_NAMED] for name in ignored[:_NAMED])
    return Response(orjson.dumps(document), 200, headers, "application/json")


def _rows(embedded: Embedded) -> Iterator[memoryview]:
    size = embedded.dimensions * 4
    for at in range(0, embedded.count * size, size):
        yield embedded.vectors[at : at + size]


def _base64(embedded: Embedded) -> Iterator[orjson.Fragment]:
    return (orjson.Fragment(b'"%b"' % base64.b64encode(row)) for row in _rows(embedded))


def _numbers(embedded: Embedded) -> Iterator[orjson.Fragment]:
    """Read back as float32 they are the same. Row by row, so that other requests have their turn in between."""
    for row in _rows(embedded):
        numbers = array("f")
        numbers.frombytes(row)
        if sys.byteorder == "big":
            numbers.byteswap()
        yield orjson.Fragment(orjson.dumps(numbers.tolist()))
