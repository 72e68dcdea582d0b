"""Texts that came as inputs: plain ones, one JSON document, or JSON lines, of which there may be millions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from fleet.embeddings import Texts, fault, parse_texts
from fleet.errors import InputTooLarge
from worker.contract import Source

#: Of a JSON document, which is read as a whole.
_DOCUMENT_BYTES = 32 * 1024**2
_LINE_BYTES = 4 * 1024**2
#: Of the lines that are kept at a time.
_PART_BYTES = 8 * 1024**2
_LINES = ("application/jsonl", "application/x-ndjson", "application/jsonlines", "application/x-jsonlines")
_JSON = ("application/json", "text/json", *_LINES)
_FIELDS = ("text", "input")
WHERE = "#/inputs/0"


@dataclass(frozen=True)
class GivenTexts:
    """Texts, and the pointer in the request to the list that they make, or to the `single` one."""

    texts: Texts
    where: str
    single: bool = False
    #: Of the first text.
    number_from: int = 0

    def pointer(self, number: int) -> str:
        """To one of them."""
        return self.where if self.single else f"{self.where}/{number}"


def given_texts(given: Any, where: str, number_from: int = 0) -> GivenTexts:
    """Raises as `parse_texts`."""
    texts = parse_texts(given, where, number_from)
    return GivenTexts(texts, where, isinstance(given, str) or not isinstance(given[0], str | list), number_from)


@dataclass(frozen=True)
class Lines:
    """A file of JSON lines: each is a text, a list of token ids, or an object with one of them as `text` or `input`."""

    path: Path

    def parts(self, size: int, first: int = 0, count: int | None = None) -> Iterator[tuple[int, Texts]]:
        """The texts in parts of at most `size`, each with the number of its first line; lines are counted from 0.

        Raises ValidationFailed: `line-invalid`, and as `parse_texts` does.
        """
        with self.path.open("rb") as file:
            wanted = islice(_lines(file), first, None if count is None else first + count)
            while part := _part(wanted, size):
                yield first, _parsed(part, first)
                first += len(part)


def line_pointer(number: int) -> str:
    return f"{WHERE}/{number}"


def _part(lines: Iterator[bytes], size: int) -> list[bytes]:
    part, held = [], 0
    for line in lines:
        part.append(line)
        held += len(line)
        if len(part) >= size or held >= _PART_BYTES:
            break
    return part


def read_texts(sources: Sequence[Source]) -> GivenTexts | Lines | None:
    """What is to be embedded; None without an input. Several inputs are one plain text each, in UTF-8.

    Raises ValidationFailed `inputs-too-many`, `texts-unreadable`, `text-not-unicode` and as `parse_texts` does, and
    InputTooLarge.
    """
    if not sources:
        return None
    kinds = [source.media_type.partition(";")[0].strip().lower() for source in sources]
    if len(sources) > 1 or kinds[0] == "text/plain" or sources[0].name.endswith(".txt"):
        if any(kind in _JSON for kind in kinds):
            raise fault(
                f"JSON comes as the only input, {len(sources)} were given", code="inputs-too-many", where="#/inputs"
            )
        return GivenTexts([_plain(source, number) for number, source in enumerate(sources)], "#/inputs")
    source = sources[0]
    if kinds[0] in _LINES or source.name.endswith((".jsonl", ".ndjson")):
        return Lines(source.path)
    try:
        given = orjson.loads(_content(source, _DOCUMENT_BYTES, f"send JSON lines (media type {_LINES[0]})"))
    except ValueError as error:
        raise fault(
            f"the input is not a JSON document: {error}; JSON lines need the media type {_LINES[0]} or a name that "
            "ends in .jsonl, and a plain text needs text/plain or .txt",
            code="texts-unreadable",
            where=WHERE,
        ) from error
    return given_texts(given.get("input") if isinstance(given, dict) else given, WHERE)


def _plain(source: Source, number: int) -> str:
    where = f"#/inputs/{number}"
    try:
        text = _content(source, _LINE_BYTES, "split the text").decode()
    except UnicodeDecodeError as error:
        raise fault(
            f"input {number} is not a text in UTF-8", code="text-not-unicode", where=where, item=number
        ) from error
    return cast(str, parse_texts(text, where)[0])


def _content(source: Source, most_bytes: int, instead: str) -> bytes:
    size = source.path.stat().st_size
    if size > most_bytes:
        raise InputTooLarge(
            f"an input of {size:,} bytes is too large to be read as a whole: {instead}", max_bytes=most_bytes
        )
    return source.path.read_bytes()


def _lines(file: BinaryIO) -> Iterator[bytes]:
    number = 0
    while line := file.readline(_LINE_BYTES + 1):
        if len(line) > _LINE_BYTES:
            raise fault(
                f"line {number} has more than {_LINE_BYTES:,} bytes",
                code="line-invalid",
                where=line_pointer(number),
                item=number,
            )
        yield line
        number += 1


def _parsed(lines: Sequence[bytes], first: int) -> Texts:
    given = [_value(line, number) for number, line in enumerate(lines, first)]
    return parse_texts(given, WHERE, first)


def _value(line: bytes, number: int) -> Any:
    try:
        value = orjson.loads(line)
    except ValueError as error:
        raise _invalid(number, f"is not JSON: {error}" if line.strip() else "is empty") from error
    if isinstance(value, dict):
        value = next((value[name] for name in _FIELDS if name in value), None)
    if not isinstance(value, str | list):
        raise _invalid(number, "is neither a text nor a list of token ids, nor an object with one as `text`")
    return value


def _invalid(number: int, lack: str) -> Exception:
    return fault(f"line {number} {lack}", code="line-invalid", where=line_pointer(number), item=number)
