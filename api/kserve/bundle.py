"""The tensors of a request as the one input of a job: in the record when they are small, else in the object store."""

import base64
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from api.requests import InputRequest
from api.spool import Spooled
from api.tickets import Tickets
from fleet.errors import DependencyError, FleetError
from fleet.kept_inputs import MAX_KEPT_BYTES
from fleet.tensors import MEDIA_TYPE, Blob, opening

_NAME = "tensors"
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Bundle:
    """In the pieces that it is made of: none is copied."""

    parts: Sequence[bytes | memoryview]
    sha256: str

    @property
    def size(self) -> int:
        return sum(map(len, self.parts))

    @property
    def recorded(self) -> bool:
        return self.size <= MAX_KEPT_BYTES


def bundled(tensors: Sequence[Blob]) -> Bundle:
    parts = [opening(tensors), *(tensor.data for tensor in tensors)]
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return Bundle(parts, hasher.hexdigest())


@contextmanager
def as_input(bundle: Bundle, tickets: Tickets, tenant: str) -> Iterator[InputRequest]:
    """For the submit inside of the block: an upload that no job takes is removed again.

    Raises DependencyError `object-store-unavailable`, `scratch-unavailable`.
    """
    if bundle.recorded:
        data = base64.b64encode(b"".join(bundle.parts)).decode()
        yield InputRequest(data=data, name=_NAME, media_type=MEDIA_TYPE)
        return
    with _spooled(bundle) as spooled:
        upload = tickets.store_body(spooled, tenant, name=_NAME, media_type=MEDIA_TYPE, sha256=None)
    try:
        yield InputRequest(upload=upload.id)
    except FleetError:
        # What cannot be removed now is swept later, as any upload that nobody used.
        with suppress(FleetError):
            tickets.delete(upload.id, tenant)
        raise


@contextmanager
def _spooled(bundle: Bundle) -> Iterator[Spooled]:
    try:
        with tempfile.NamedTemporaryFile(prefix="fleet-bundle-") as file:
            for part in bundle.parts:
                for at in range(0, len(part), _CHUNK):
                    file.write(part[at : at + _CHUNK])
            file.flush()
            yield Spooled(Path(file.name), bundle.size, bundle.sha256)
    except OSError as error:
        raise DependencyError(
            f"the server's temporary folder cannot take the tensors: {error.strerror}", code="scratch-unavailable"
        ) from error
