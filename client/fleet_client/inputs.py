"""The inputs of one submit: within the request, as uploads, or where they lie already."""

import base64
from typing import Any, TypeAlias, cast

from fleet_client import uploads
from fleet_client.places import place_of
from fleet_client.records import ObjectPrefix, ObjectRef, Upload
from fleet_client.sources import PICTURES, Sendable, Source, open_source
from fleet_client.transport import Wires
from fleet_client.uploads import OnTransfer

#: An input of a job: anything that can be sent, or where it lies already; text may be `https://…` or `s3://bucket/key`.
Input: TypeAlias = Sendable | Upload | ObjectRef | ObjectPrefix

#: Bytes of an input that travel within the request, of a picture, and of all inputs of a job, as many as the server
#: takes: a photograph that is uploaded takes two requests more.
_INLINE_BYTES, _PICTURE_BYTES, _REQUEST_BYTES = 64 * 1024, 1024 * 1024, 4 * 1024 * 1024


class Inputs:
    """Not thread-safe."""

    def __init__(self, wires: Wires, on_upload: OnTransfer | None) -> None:
        self._wires = wires
        self._on_upload = on_upload
        self._left = _REQUEST_BYTES
        #: For the request, in order.
        self.references: list[dict[str, Any]] = []
        #: SHA-256 of the bytes, where they are known here.
        self.digests: list[str | None] = []

    def add(self, given: Input) -> None:
        """Raises as `Client.upload`."""
        place = place_of(given)
        if place is not None:
            self.references.append(place)
            self.digests.append(given.sha256 if isinstance(given, Upload) else None)
            return
        with open_source(cast(Sendable, given)) as source:
            self.references.append(self._within(source) if self._fits(source) else self._uploaded(source))
            self.digests.append(source.sha256)

    def upload_rest(self) -> bool:
        """Uploads what would travel within the request; whether anything would. Raises as `Client.upload`."""
        within = [number for number, reference in enumerate(self.references) if "data" in reference]
        for number in within:
            reference = self.references[number]
            with open_source(base64.b64decode(reference["data"]), reference["name"]) as source:
                self.references[number] = self._uploaded(source)
        return bool(within)

    def _fits(self, source: Source) -> bool:
        most = _PICTURE_BYTES if source.media_type in PICTURES else _INLINE_BYTES
        if source.size > min(most, self._left):
            return False
        self._left -= source.size
        return True

    def _within(self, source: Source) -> dict[str, Any]:
        data = base64.b64encode(b"".join(source.chunks())).decode("ascii")
        return {"data": data, "name": source.name, "media_type": source.media_type}

    def _uploaded(self, source: Source) -> dict[str, Any]:
        return {"upload": uploads.send(self._wires, source, self._on_upload).id}
