"""Inputs that lie elsewhere already: nothing is sent but where they are."""

import re
from typing import Any

from fleet_client.errors import InputUnusable
from fleet_client.records import ObjectPrefix, ObjectRef, Upload

_URL = re.compile(r"(?:https?|s3)://", re.IGNORECASE)


def place_of(given: object) -> dict[str, Any] | None:
    """The reference for the request; None for what has to be sent.

    Of text `https://…` is a picture that the fleet fetches, `s3://bucket/key` an object in the server's bucket, and
    with a slash at the end all that lies under it. Raises InputUnusable for `s3://` without a bucket and a key.
    """
    match given:
        case Upload():
            return {"upload": given.id}
        case ObjectRef():
            return {"object": {"bucket": given.bucket, "key": given.key}}
        case ObjectPrefix():
            return {"prefix": {"bucket": given.bucket, "key": given.key}}
        case str() if _URL.match(given):
            return _stored(given) if given[:2].lower() == "s3" else {"url": given}
    return None


def _stored(text: str) -> dict[str, Any]:
    bucket, _, key = text[len("s3://") :].partition("/")
    if not (bucket and key):
        raise InputUnusable(f"{text!r} names no object: write s3://bucket/key, or s3://bucket/folder/ for all in it")
    return {"prefix" if key.endswith("/") else "object": {"bucket": bucket, "key": key}}
