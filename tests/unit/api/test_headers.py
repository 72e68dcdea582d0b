"""Prefer, Idempotency-Key, traceparent and x-request-id, as they are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from api.headers import idempotency_key, preferred_wait_s, request_id, trace_context
from fleet.errors import MalformedRequest


def headers(name: str, *values: str) -> Headers:
    return Headers(raw=[(name.encode(), value.encode("latin-1")) for value in values])


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["wait=10"], 10),
        (["wait=0"], 0),
        (["WAIT = 10"], 10),
        (['wait="10"'], 10),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10"], 10),
        (["wait=10; foo=bar"], 10),
        (['foo="a, wait=5", wait=10'], 10),
        (['foo="a \\" wait=5", wait=10'], 10),
        (["wait=10, wait=20"], 10),
        (["wait=900"], 300),
        (["handling=lenient"], None),
        (["wait"], None),
        (["wait=soon"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=" + "9" * 30], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_preferred_wait_is_read_as_rfc_7240_writes_it(values: list[str], seconds: int | None) -> None:
    assert preferred_wait_s(headers("prefer", *values), 300) == seconds


@given(st.text(st.characters(max_codepoint=255)))
def test_no_preference_can_break_the_reading(value: str) -> None:
    granted = preferred_wait_s(headers("prefer", value), 300)
    assert granted is None or 0 <= granted <= 300


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        (' "abc" ', "abc"),
        (r'"a\"b\\c"', r'a"b\c'),
        ("x" * 255, "x" * 255),
        ('"half', '"half'),
    ],
)
def test_a_key_is_taken_quoted_or_bare(sent: str, key: str) -> None:
    assert idempotency_key(headers("idempotency-key", sent)) == key


@pytest.mark.parametrize("sent", ["", '""', "a b", '"a b"', "x" * 256, "é", "a\tb"])
def test_a_key_that_is_none_is_refused(sent: str) -> None:
    with pytest.raises(MalformedRequest, match="1 to 255 visible"):
        idempotency_key(headers("idempotency-key", sent))


def test_no_key_is_no_key() -> None:
    assert idempotency_key(Headers()) is None


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (TRACE, TRACE),
        (TRACE.upper(), None),
        (TRACE[:-1], None),
        ("ff" + TRACE[2:], None),
        ("00-" + "0" * 32 + TRACE[35:], None),
        (TRACE[:36] + "0" * 16 + "-01", None),
        ("", None),
    ],
)
def test_a_trace_context_is_kept_only_in_its_form(sent: str, kept: str | None) -> None:
    assert trace_context(headers("traceparent", sent)) == kept


def test_a_request_id_of_the_caller_is_kept_only_when_it_is_visible_and_short() -> None:
    assert request_id(headers("x-request-id", "abc")) == "abc"
    for unfit in ("", "a b", "x" * 129, "é"):
        assert request_id(headers("x-request-id", unfit)) not in ("", unfit)
