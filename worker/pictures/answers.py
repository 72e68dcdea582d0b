"""What became of each picture of a job, and the form in which that is told and kept: an object of JSON each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from fleet.errors import FleetError, InputError, storable
from worker.contract import EncodedFile
from worker.media.strict import strict


@dataclass(frozen=True)
class Drawn:
    """An answer, and a PNG that shows it."""

    result: dict[str, Any]
    preview_png: bytes


@dataclass
class Answer:
    """Of one picture: a result, or what was wrong with it."""

    index: int
    name: str
    result: dict[str, Any] | None = None
    error: FleetError | None = None
    preview_png: bytes | None = None


@dataclass
class ItemAnswers:
    """A task's outcome, for ResultKind.ITEMS: as many answers as there were pictures, in their order."""

    answers: list[Answer]
    many: bool
    #: What is true of all of them, for the top of the result.
    facts: dict[str, Any] = field(default_factory=dict)
    #: Artifacts beside the previews.
    files: list[EncodedFile] = field(default_factory=list)


def item_of(answer: Answer) -> dict[str, Any]:
    """{"index", "name", "result" or "error": {"code", "detail", and facts}}. Raises ModelError `result-not-finite`."""
    item: dict[str, Any] = {"index": answer.index, "name": storable(answer.name)}
    if answer.error is not None:
        told = answer.error.as_dict()
        return item | {"error": {"code": told["code"], "detail": told["message"], **told.get("facts", {})}}
    return item | {"result": strict(answer.result or {})}


def lines_of(answers: Sequence[Answer]) -> bytes:
    """One line of JSON for each. Raises as `item_of`."""
    return b"".join(orjson.dumps(item_of(answer)) + b"\n" for answer in answers)


def answers_in(lines: bytes) -> list[Answer]:
    """What `lines_of` wrote."""
    return [_answer(orjson.loads(line)) for line in lines.splitlines()]


def _answer(item: dict[str, Any]) -> Answer:
    error = None
    if (told := item.get("error")) is not None:
        facts = {name: value for name, value in told.items() if name not in ("code", "detail")}
        error = InputError(told["detail"], code=told["code"], **facts)
    return Answer(item["index"], item["name"], item.get("result"), error)
