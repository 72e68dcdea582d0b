"""Text embeddings as the front door and the workers agree on them: what a request may give, and a result's bytes.

No numbers are written as text inside the fleet: vectors are float32, little-endian, row by row.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from fleet.contracts import JobError
from fleet.errors import ModelError, ValidationFailed
from fleet.values import Frozen

TASK_NAME = "text-embedding"
#: Vectors of at most so many bytes lie in the record itself; larger ones are the artifact `VECTORS_NAME`.
MAX_INLINE_BYTES = 64 * 1024
#: NumPy's format, so that `numpy.load` reads it; `offset` in the result says where the vectors begin in it.
VECTORS_NAME = "embeddings.npy"
#: The tokens of each text, int32 in NumPy's format, where there are too many texts to list them in the result.
TOKENS_NAME = "tokens.npy"
MAX_LISTED_TOKENS = 2048
_FLOAT_BYTES = 4

#: What is embedded: whole texts, or the token ids of each.
Texts = list[str] | list[list[int]]


class Refusal(Frozen):
    """A request of a joined job that has no vectors: its number, from 0, and why."""

    request: int = Field(ge=0)
    error: JobError


class EmbeddingResult(Frozen):
    """The result of a job, as the record keeps it."""

    count: int = Field(ge=0, description="texts")
    dimensions: int = Field(ge=1)
    normalized: bool
    total_tokens: int = Field(ge=0, description="tokens that were fed, special ones included")
    truncated: int = Field(ge=0, description="texts of which a part was cut off")
    #: Of each text; None where they are the artifact `tokens.npy`.
    tokens: list[int] | None = None
    #: Of a part: what the whole request may have.
    most_tokens: int | None = None
    #: The vectors as base64, or where they are: `artifact`, from byte `offset` on.
    data: str | None = None
    artifact: str | None = None
    offset: int = 0
    #: Of a joined job: the requests that are not among the vectors.
    refused: list[Refusal] | None = None

    def vectors(self, artifact: bytes | None = None) -> memoryview:
        """The bytes of all vectors. Raises ModelError `result-unreadable` when they are not as many as they must be."""
        try:
            content = base64.b64decode(self.data, validate=True) if self.data is not None else artifact or b""
        except binascii.Error as error:
            raise ModelError("the vectors of a result are not base64", code="result-unreadable") from error
        view = memoryview(content)[self.offset :]
        if len(view) != self.count * self.row_bytes:
            raise ModelError(
                f"{len(view)} bytes are not {self.count} vectors of {self.dimensions} numbers",
                code="result-unreadable",
            )
        return view

    @property
    def row_bytes(self) -> int:
        return self.dimensions * _FLOAT_BYTES


class EmbeddingParams(Frozen):
    """What a request may ask for besides its texts."""

    kind: Literal["query", "passage"] | None = Field(
        default=None, description="put the model's prompt for queries or for passages before each text, if it has one"
    )
    prompt: str | None = Field(default=None, max_length=128, description="put the model's prompt of this name before")
    dimensions: int | None = Field(
        default=None, ge=1, description="cut the vectors to so many numbers, where the model allows it; null: all"
    )
    truncate: Literal["refuse", "end", "start"] | None = Field(
        default=None, description="what is cut from a text with too many tokens; null: as the model's author says"
    )
    first: int = Field(default=0, ge=0, description="of JSON lines: the first one that is embedded, from 0")
    count: int | None = Field(default=None, ge=1, description="of JSON lines: how many; null: all that follow")


class Part(Frozen):
    """Where the texts of a job stand in the request that they are a part of."""

    number_from: int = Field(ge=0, description="the number of the first text, in messages")
    of: int = Field(ge=1, description="texts of the whole request")


class JobParams(EmbeddingParams):
    """... and what the front door says of a job that is not just one request."""

    part: Part | None = Field(default=None, description="the texts are a part of a larger request")
    joined: list[Annotated[int, Field(ge=1)]] | None = Field(
        default=None,
        min_length=2,
        description="the texts are those of several requests: how many of each; what is wrong with one's is its alone",
    )


def requests_in(params: Mapping[str, Any]) -> int:
    """How many requests a job answers, by its params: 0 of a part that is not the first one."""
    match params:
        case {"joined": list(counts)}:
            return len(counts)
        case {"part": {"number_from": int(number)}} if number > 0:
            return 0
    return 1


def parse_texts(given: Any, where: str, number_from: int = 0) -> Texts:
    """A string, a list of strings, a list of token ids (one text), or a list of lists of them -> a list of texts.

    `where` is the JSON pointer of `given` in the request, and `number_from` the number of its first item.

    Raises ValidationFailed with a pointer to the first fault: `input-missing`, `input-empty`, `input-type`,
    `input-mixed`, `text-empty`, `text-not-unicode`, `token-id-invalid`.
    """
    if given is None:
        raise fault("there is no text to embed: give `input`", code="input-missing", where=where)
    if isinstance(given, str):
        return [_text(given, where)]
    if not isinstance(given, list):
        raise fault(
            f"the input is {_kind(given)}, and must be a text, a list of texts, a list of token ids, or a list of such "
            "lists",
            code="input-type",
            where=where,
        )
    if not given:
        raise fault("the input is an empty list: there must be at least one text", code="input-empty", where=where)
    first = given[0]
    if isinstance(first, str):
        return [_text(item, f"{where}/{n}", n) for n, item in enumerate(given, number_from)]
    if isinstance(first, list):
        return [_ids(item, f"{where}/{n}", n) for n, item in enumerate(given, number_from)]
    if isinstance(first, int) and not isinstance(first, bool):
        return [_ids(given, where)]
    raise fault(
        f"the input begins with {_kind(first)}, and must be of texts, of token ids, or of lists of token ids",
        code="input-type",
        where=f"{where}/0",
    )


def fault(message: str, *, code: str, where: str, item: int | None = None, **facts: Any) -> ValidationFailed:
    """What is wrong with an input, and where: `item` counts texts from 0."""
    if item is not None:
        facts["item"] = item
    return ValidationFailed(message, [{"detail": message, "pointer": where}], code=code, pointer=where, **facts)


def _text(given: Any, where: str, item: int | None = None) -> str:
    if not isinstance(given, str):
        raise _mixed(given, "texts", where, item)
    if not given:
        raise fault(f"{_named(item)} is empty", code="text-empty", where=where, item=item)
    # Most are known to be sound without a look at each character.
    if not given.isascii() and any("\ud800" <= character <= "\udfff" for character in given):
        raise fault(
            f"{_named(item)} has half of a surrogate pair in it, which is no character",
            code="text-not-unicode",
            where=where,
            item=item,
        )
    return given


def _ids(given: Any, where: str, item: int | None = None) -> list[int]:
    if not isinstance(given, list):
        raise _mixed(given, "lists of token ids", where, item)
    if not given:
        raise fault(f"{_named(item)} is an empty list of token ids", code="text-empty", where=where, item=item)
    for at, value in enumerate(given):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise fault(
                f"a token id is a whole number of at least 0, not {_kind(value)}"
                + (f" ({value})" if isinstance(value, int | float) and not isinstance(value, bool) else ""),
                code="input-mixed" if isinstance(value, str | list) else "token-id-invalid",
                where=f"{where}/{at}",
                item=item,
            )
    return given


def _mixed(given: Any, wanted: str, where: str, item: int | None) -> ValidationFailed:
    return fault(
        f"item {item} is {_kind(given)} in a list of {wanted}: do not mix them",
        code="input-mixed",
        where=where,
        item=item,
    )


def _named(item: int | None) -> str:
    return "the text" if item is None else f"text {item}"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
    return "an object"
