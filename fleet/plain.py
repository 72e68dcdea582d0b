"""Plain values: what strangers may put into the record as they like, in a request or in a model's files."""

import math
from typing import Any

#: Deeper than any document that people write, and well within what every reader of JSON follows.
MAX_DEPTH = 64
#: Each value counts, and so do sixteen characters; what is referred to several times counts as often.
_MOST = 2_000_000
_CHARACTERS = 16
_WHOLE = 2**63


def check_plain(value: Any) -> None:
    """Raises ValueError for what JSON, PostgreSQL or a reader of either does not take, saying what that is."""
    left, waiting = _MOST, [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        left -= 1
        if depth > MAX_DEPTH:
            raise ValueError(f"values may be nested {MAX_DEPTH} deep, and these are deeper")
        if isinstance(one, str):
            left -= len(one) // _CHARACTERS
            _check_text(one)
        elif isinstance(one, dict):
            waiting += [(part, depth + 1) for item in one.items() for part in item]
        elif isinstance(one, list):
            waiting += [(part, depth + 1) for part in one]
        else:
            _check_number(one)
        if left < 0:
            raise ValueError("there are too many values, counting each as often as it is referred to")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("a text must not contain the NUL character (\\u0000)")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("a text has half a character (a lone surrogate)") from None


def _check_number(value: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no finite number")
    elif not isinstance(value, int):
        raise ValueError(f"a {type(value).__name__} is no value of JSON: put it in quotes")  # noqa: TRY004 (documented)
    elif not -_WHOLE <= value < 2 * _WHOLE:
        raise ValueError("a whole number has at most 64 bits")
