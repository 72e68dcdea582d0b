"""Whether a job is the one that a repeated submit asks for, also when the repeat had to upload its files again.

The server tells requests apart by their bodies, and a second upload of the same file has another id. The file's
SHA-256 is the same, and the record keeps it.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from fleet_client.records import Callback, JobRecord

#: Fields of the request that the record repeats as they were sent; those that were not sent are the server's choice.
_REPEATED = (
    "model", "version", "task", "params", "priority", "lane", "labels", "execution_timeout_s", "max_attempts",
    "retention_s",
)  # fmt: skip


def is_same_request(record: JobRecord, body: Mapping[str, Any], digests: Sequence[str | None]) -> bool:
    """`digests` are the inputs' SHA-256 in order; an input without one, or recorded without one, is never the same.

    `deadline_s` is not compared: it counts from the first submit.
    """
    recorded = record.model_dump()
    # `name@alias`: the record has the version that the alias stood for.
    body = {**body, "model": str(body["model"]).partition("@")[0]}
    if any(name in body and body[name] != recorded[name] for name in _REPEATED):
        return False
    if not _same_callback(record.callback, body.get("callback")):
        return False
    return None not in digests and [given.sha256 for given in record.inputs] == list(digests)


def _same_callback(recorded: Callback | None, sent: Mapping[str, Any] | None) -> bool:
    """Events that were not sent are the server's choice."""
    if recorded is None or sent is None:
        return recorded is None and sent is None
    wanted = list(dict.fromkeys(sent.get("events", recorded.events)))
    same = recorded.events == wanted and recorded.body == sent.get("body", "event")
    return same and _place(recorded.url) == _place(sent["url"])


def _place(url: str) -> tuple[object, ...]:
    """What a URL means, whichever way it is spelled: the record keeps one spelling of its own."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return (url,)
    return parts.scheme, (parts.hostname or "").rstrip("."), port, parts.path or "/", parts.query
