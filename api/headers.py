"""Request headers that mean something to us: Prefer, Idempotency-Key, Last-Event-ID, traceparent, x-request-id."""

import re

from starlette.datastructures import Headers

from fleet.errors import MalformedRequest
from fleet.ids import new_id

#: One preference up to the next comma that is not within quotes.
_MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def preferred_wait_s(headers: Headers, at_most_s: int) -> int | None:
    """The granted seconds of `Prefer: wait=N` (RFC 7240), None without the preference.

    A preference may be ignored, so one that cannot be read is; of several the first counts.
    """
    for member in _MEMBER.findall(",".join(headers.getlist("prefer"))):
        name, _, value = member.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip().strip('"')
            return min(int(seconds), at_most_s) if re.fullmatch(r"[0-9]{1,9}", seconds) else None
    return None


def idempotency_key(headers: Headers) -> str | None:
    """Quoted as the draft has it, or bare as most clients send it. Raises MalformedRequest."""
    sent = headers.get("idempotency-key")
    if sent is None:
        return None
    quoted = _QUOTED.fullmatch(sent.strip())
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else sent.strip()
    if len(key) > 255 or not _VISIBLE.fullmatch(key):
        raise MalformedRequest(
            "Idempotency-Key must be 1 to 255 visible ASCII characters, quoted or bare", code="invalid-idempotency-key"
        )
    return key


def last_event_id(headers: Headers) -> int | None:
    """The revision that a follower has seen; None where it names none that could be ours."""
    sent = headers.get("last-event-id", "").strip()
    return int(sent) if re.fullmatch(r"[0-9]{1,18}", sent) else None


def trace_context(headers: Headers) -> str | None:
    """The caller's W3C trace context; one that breaks its form is dropped, as the standard asks."""
    sent = headers.get("traceparent", "")
    return sent if _TRACEPARENT.fullmatch(sent) else None


def request_id(headers: Headers) -> str:
    """The caller's id when it is 1 to 128 visible characters, else a new one."""
    sent = headers.get("x-request-id", "")
    return sent if len(sent) <= 128 and _VISIBLE.fullmatch(sent) else new_id().hex
