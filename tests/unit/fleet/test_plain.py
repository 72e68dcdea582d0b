"""What strangers may put into the record, and what neither PostgreSQL nor a reader of JSON would take."""

from typing import Any

import pytest

from fleet.plain import MAX_DEPTH, check_plain


def nested(depth: int, inside: Any = 1) -> Any:
    value = inside
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 2**64 - 1, 0.5, "", "ä \U0001f600", [], {}, {"a": [1, {"b": None}]}, nested(MAX_DEPTH)],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_are_taken(value: Any) -> None:
    check_plain(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\0b", "NUL"),
        ({"a\0b": 1}, "NUL"),
        ([{"a": ["\ud800"]}], "half a character"),
        (float("inf"), "finite"),
        (float("nan"), "finite"),
        (2**64, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (b"x", "a bytes is no value"),
        ({1.5: (1,)}, "a tuple is no value"),
        (nested(MAX_DEPTH + 1), "nested"),
        (nested(100_000), "nested"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() and value.isprintable() else "",
)
def test_others_are_refused_in_words(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_plain(value)


def test_what_is_referred_to_often_counts_as_often() -> None:
    value: Any = ["x"] * 10
    for _ in range(30):
        value = [value] * 10
    with pytest.raises(ValueError, match="too many"):
        check_plain(value)
    with pytest.raises(ValueError, match="too many"):
        check_plain(["x" * 1_000_000] * 100)
    looped: list[Any] = []
    looped.append(looped)
    with pytest.raises(ValueError, match="nested"):
        check_plain(looped)
