"""What ultralytics writes into the metadata of its exports, read as literals: nothing in it is ever run."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Longer values are not read: names of ten thousand classes take a quarter of it.
MAX_LENGTH = 1024**2
_NAME_CHARACTERS = 200
_CLASS = re.compile(r"[0-9]{1,9}")
_SIDES = range(16, 16385)


@dataclass(frozen=True)
class UltralyticsMetadata:
    """Fields that are missing or not what they should be are None."""

    task: str
    names: dict[int, str] | None
    stride: int | None
    #: (width, height).
    size: tuple[int, int] | None
    #: The class of the last layer, such as `Detect` or `RTDETRDecoder`; older exports do not say.
    head: str | None
    end_to_end: bool | None
    #: Whether suppression is part of the graph.
    suppressed: bool


def ultralytics_metadata(metadata: Mapping[str, str]) -> UltralyticsMetadata | None:
    """None for a file that is not one of theirs."""
    if not {"task", "names", "stride"} <= metadata.keys():
        return None
    arguments = literal(metadata.get("args", ""))
    head = metadata.get("head")
    return UltralyticsMetadata(
        task=metadata["task"][:100],
        names=class_names(metadata["names"]),
        stride=_number(literal(metadata["stride"])),
        size=_size(literal(metadata.get("imgsz", ""))),
        head=head.strip("'\"")[:100] if head else None,
        end_to_end=truth if isinstance(truth := literal(metadata.get("end2end", "")), bool) else None,
        suppressed=isinstance(arguments, dict) and arguments.get("nms") is True,
    )


def class_names(text: str) -> dict[int, str] | None:
    """Of `{0: 'person', ...}` or `['person', ...]`; None for anything else."""
    value = literal(text)
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return None
    if not all(type(key) is int and key >= 0 and isinstance(name, str) for key, name in value.items()):
        return None
    return {key: str(name)[:_NAME_CHARACTERS] for key, name in value.items()}


def numbered(labels: Mapping[Any, Any]) -> dict[int, str]:
    """Of `{"0": "person", ...}`, as JSON has it; what is no number of a class is left out."""
    return {int(key): str(name)[:_NAME_CHARACTERS] for key, name in labels.items() if _CLASS.fullmatch(str(key))}


def literal(text: str) -> Any:
    """The Python literal that is written there; None for what is none, or is too long."""
    if not text or len(text) > MAX_LENGTH:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _number(value: Any) -> int | None:
    if isinstance(value, list | tuple) and value and all(isinstance(one, int | float) for one in value):
        value = max(value)
    return int(value) if isinstance(value, int | float) and 1 <= value <= 1024 else None


def _size(value: Any) -> tuple[int, int] | None:
    """Written as [height, width]."""
    sides = [value, value] if isinstance(value, int) else value
    if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(side in _SIDES for side in sides):
        return None
    return int(sides[1]), int(sides[0])
