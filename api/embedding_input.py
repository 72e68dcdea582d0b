"""Texts as a job is given them: in its params, but for those that the record cannot keep there."""

import base64
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from api.inputs import MAX_INLINE_BYTES
from api.requests import InputRequest
from api.spool import Spooled
from api.tickets import Tickets
from fleet.embeddings import Texts
from fleet.errors import DependencyError, FleetError

_NAME, _MEDIA_TYPE = "texts.json", "application/json"


def storable(texts: Texts) -> bool:
    """PostgreSQL keeps every text but one with a NUL."""
    return not any(isinstance(text, str) and "\0" in text for text in texts)


@contextmanager
def as_input(texts: Texts, tickets: Tickets, tenant: str) -> Iterator[tuple[dict[str, Any], list[InputRequest]]]:
    """Params and inputs, for the submit inside of the block: an upload that no job takes is removed again.

    Raises DependencyError `object-store-unavailable`, `scratch-unavailable`.
    """
    if storable(texts):
        yield {"input": texts}, []
        return
    content = orjson.dumps(texts)
    if len(content) <= MAX_INLINE_BYTES:
        data = base64.b64encode(content).decode()
        yield {}, [InputRequest(data=data, name=_NAME, media_type=_MEDIA_TYPE)]
        return
    with _spooled(content) as spooled:
        upload = tickets.store_body(spooled, tenant, name=_NAME, media_type=_MEDIA_TYPE, sha256=None)
    try:
        yield {}, [InputRequest(upload=upload.id)]
    except FleetError:
        # What cannot be removed now is swept later, as any upload that nobody used.
        with suppress(FleetError):
            tickets.delete(upload.id, tenant)
        raise


@contextmanager
def _spooled(content: bytes) -> Iterator[Spooled]:
    try:
        with tempfile.NamedTemporaryFile(prefix="fleet-texts-") as file:
            file.write(content)
            file.flush()
            yield Spooled(Path(file.name), len(content), hashlib.sha256(content).hexdigest())
    except OSError as error:
        raise DependencyError(
            f"the server's temporary folder cannot take the texts: {error.strerror}", code="scratch-unavailable"
        ) from error
