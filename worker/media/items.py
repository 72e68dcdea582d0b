"""Answers to pictures become a result: the one answer itself, or a list, which is an artifact where it is long."""

from pathlib import Path
from typing import Any

import orjson

from fleet.job_items import ITEMS_NAME, MAX_INLINE_BYTES
from worker.contract import Encoded, EncodedFile
from worker.media.strict import strict
from worker.pictures.answers import ItemAnswers, item_of

#: The artifact of a long answer to one picture.
_RESULT_NAME = "result.json"


def encode_items(outcome: ItemAnswers, folder: Path) -> Encoded:
    """Of many: {"count", "succeeded", "failed", "items": [{"index", "name", "result" or "error"}]}.

    Instead of a long `items` it has `"artifact": "items.jsonl"`. Of one: its answer; of a long one without the lists,
    and with `"artifact": "result.json"`, where it is whole. A result whose preview is an artifact has its name as
    `preview`. Raises ModelError `result-not-finite`.
    """
    previews = [*_previews(outcome, folder), *outcome.files]
    if not outcome.many:
        return _alone(strict(outcome.answers[0].result or {}) | outcome.facts, previews, folder)
    failed = sum(answer.error is not None for answer in outcome.answers)
    counts = {"count": len(outcome.answers), "succeeded": len(outcome.answers) - failed, "failed": failed}
    result: dict[str, Any] = counts | outcome.facts
    lines = [orjson.dumps(item_of(answer)) for answer in outcome.answers]
    if sum(map(len, lines)) <= MAX_INLINE_BYTES:
        return Encoded(result | {"items": [orjson.loads(line) for line in lines]}, previews)
    path = _made(folder) / ITEMS_NAME
    with path.open("wb") as file:
        file.writelines(line + b"\n" for line in lines)
    listed = EncodedFile(ITEMS_NAME, path, "application/jsonl")
    return Encoded(result | {"artifact": ITEMS_NAME}, [listed, *previews])


def _alone(result: dict[str, Any], files: list[EncodedFile], folder: Path) -> Encoded:
    content = orjson.dumps(result)
    if len(content) <= MAX_INLINE_BYTES:
        return Encoded(result, files)
    path = _made(folder) / _RESULT_NAME
    path.write_bytes(content)
    short = {name: value for name, value in result.items() if not isinstance(value, list)}
    whole = EncodedFile(_RESULT_NAME, path, "application/json")
    return Encoded(short | {"artifact": _RESULT_NAME}, [whole, *files])


def _previews(outcome: ItemAnswers, folder: Path) -> list[EncodedFile]:
    """Writes them, and each one's name into its result."""
    files = []
    for answer in outcome.answers:
        if answer.preview_png is None:
            continue
        path = _made(folder) / (f"preview-{answer.index}.png" if outcome.many else "preview.png")
        path.write_bytes(answer.preview_png)
        answer.result = (answer.result or {}) | {"preview": path.name}
        files.append(EncodedFile(path.name, path, "image/png"))
    return files


def _made(folder: Path) -> Path:
    """Small jobs need none."""
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
