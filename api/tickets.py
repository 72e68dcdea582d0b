"""Uploads from the ticket to the stored object: presigned, in parts, through the API, or in one body."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from api.inputs import Inputs
from api.requests import PartRequest, UploadRequest
from api.spool import Spooled
from api.views import API, PartView, TicketView
from fleet.contracts import ObjectRef
from fleet.errors import Conflict, InputTooLarge, NotFound, ValidationFailed
from fleet.ids import new_id
from fleet.objects import ObjectStore, StoredPart, upload_key
from fleet.settings import Settings
from fleet.uploads import Upload, UploadStore

MIB = 1024 * 1024
#: Larger files go in parts, so that a broken connection costs one part.
SINGLE_PUT_BYTES = 64 * MIB
_MIN_PART_BYTES, _MAX_PARTS = 16 * MIB, 1000


@dataclass(frozen=True)
class Part:
    number: int
    offset: int
    size: int


def part_size(size: int) -> int:
    """Whole MiB, at least 16, such that a file has at most 1000 parts."""
    return max(_MIN_PART_BYTES, -(-size // (_MAX_PARTS * MIB)) * MIB)


def parts_of(size: int, each: int) -> list[Part]:
    return [Part(number, offset, min(each, size - offset)) for number, offset in enumerate(range(0, size, each), 1)]


class Tickets:
    def __init__(self, settings: Settings, uploads: UploadStore, objects: ObjectStore, inputs: Inputs) -> None:
        self._presigned = settings.object_access == "presigned"
        self._max_bytes = settings.max_upload_bytes
        self._ttl_s = float(settings.upload_ttl_s)
        self._uploads = uploads
        self._objects = objects
        self._inputs = inputs

    def create(self, request: UploadRequest, tenant: str) -> Upload:
        """Raises ValidationFailed `empty-input`, InputTooLarge."""
        if request.size == 0:
            raise _empty()
        if request.size > self._max_bytes:
            raise InputTooLarge(
                f"{request.size} bytes are more than the {self._max_bytes} of MAX_UPLOAD_BYTES",
                max_bytes=self._max_bytes,
            )
        upload_id, in_parts = new_id(), self._presigned and request.size > SINGLE_PUT_BYTES
        reference = ObjectRef(
            bucket=self._objects.bucket,
            key=upload_key(tenant, upload_id, request.name),
            size=request.size,
            sha256=request.sha256,
            media_type=request.media_type,
            name=request.name,
        )
        return self._uploads.create(
            upload_id,
            tenant,
            reference,
            ttl_s=self._ttl_s,
            multipart_id=self._objects.start_multipart(reference.key, request.media_type) if in_parts else None,
            part_size=part_size(request.size) if in_parts else None,
        )

    def store_body(self, spooled: Spooled, tenant: str, *, name: str, media_type: str, sha256: str | None) -> Upload:
        """A file that came as the body of a request. Raises ValidationFailed `empty-input`, `checksum-mismatch`."""
        if spooled.size == 0:
            raise _empty()
        _check_digest(sha256, spooled)
        upload_id = new_id()
        reference = self._put(upload_key(tenant, upload_id, name), spooled, media_type, name)
        return self._uploads.create(upload_id, tenant, reference, ttl_s=self._ttl_s, complete=True)

    def awaiting_content(self, upload_id: UUID, tenant: str, announced_bytes: int | None) -> Upload:
        """The upload whose bytes are about to come through the API. Raises NotFound, Conflict, ValidationFailed."""
        upload = self._uploads.get(upload_id, tenant)
        if upload.multipart_id is not None:
            raise Conflict(f"upload {upload_id} goes in parts: PUT each at its `url`", code="upload-in-parts")
        if announced_bytes is not None:
            _check_size(upload, announced_bytes)
        return upload

    def store_content(self, upload: Upload, spooled: Spooled) -> Upload:
        """Raises ValidationFailed `size-mismatch`, `checksum-mismatch`, Conflict `upload-complete`."""
        if upload.complete:
            # The answer to the first PUT may have been lost: the same bytes again are no fault.
            if upload.object.sha256 != spooled.sha256:
                raise Conflict(f"upload {upload.id} is complete already, with other bytes", code="upload-complete")
            return upload
        _check_size(upload, spooled.size)
        _check_digest(upload.object.sha256, spooled)
        self._put(upload.object.key, spooled, upload.object.media_type, upload.object.name or "file")
        return self._uploads.complete(upload.id, upload.tenant, spooled.sha256)

    def complete(self, upload_id: UUID, tenant: str, parts: Sequence[PartRequest]) -> Upload:
        """Joins a multipart upload, or states that a single PUT is done; may be repeated.

        Raises NotFound, ValidationFailed `validation-failed`, `upload-incomplete`, `size-mismatch`.
        """
        upload = self._uploads.get(upload_id, tenant)
        if upload.complete:
            return upload
        if upload.multipart_id is not None and upload.part_size is not None:
            _check_parts(parts, len(parts_of(upload.object.size, upload.part_size)))
            joined = [StoredPart(part.number, part.etag) for part in parts]
            try:
                self._objects.complete_multipart(upload.object.key, upload.multipart_id, joined)
            except NotFound:
                # Joined by an earlier call whose end got lost, or a part is missing: the object itself tells.
                self._inputs.check_arrived(upload)
        self._inputs.check_arrived(upload)
        return self._uploads.complete(upload_id, tenant)

    def get(self, upload_id: UUID, tenant: str) -> Upload:
        return self._uploads.get(upload_id, tenant)

    def delete(self, upload_id: UUID, tenant: str) -> None:
        """Raises NotFound, Conflict `upload-in-use`. Given up first, so that no submit takes it meanwhile."""
        self._uploads.get(upload_id, tenant)
        upload = self._uploads.give_up(upload_id, tenant)
        if upload is None:
            raise Conflict(f"upload {upload_id} is the input of a job and stays with it", code="upload-in-use")
        remove_bytes(self._objects, upload)
        self._uploads.delete(upload_id, tenant)

    def view(self, upload: Upload, base_url: str) -> TicketView:
        """URLs are signed anew each time."""
        key, multipart_id, each = upload.object.key, upload.multipart_id, upload.part_size
        url: str | None = None
        parts: list[PartView] | None = None
        if upload.complete:
            pass
        elif multipart_id is not None and each is not None:
            parts = [
                PartView(
                    number=part.number,
                    offset=part.offset,
                    size=part.size,
                    url=self._objects.presigned_part(key, multipart_id, part.number),
                )
                for part in parts_of(upload.object.size, each)
            ]
        elif self._presigned:
            url = self._objects.presigned_put(key)
        else:
            url = f"{base_url}{API}/uploads/{upload.id}/content"
        return TicketView(
            id=upload.id,
            state="complete" if upload.complete else "pending",
            object=upload.object,
            url=url,
            parts=parts,
            expires_at=upload.expires_at,
        )

    def _put(self, key: str, spooled: Spooled, media_type: str, name: str) -> ObjectRef:
        return self._objects.put_file(key, spooled.path, media_type=media_type, name=name, sha256=spooled.sha256)


def remove_bytes(objects: ObjectStore, upload: Upload) -> None:
    """Removes what has arrived of an upload; also succeeds when nothing has."""
    if upload.multipart_id is not None:
        with suppress(NotFound):
            objects.abort_multipart(upload.object.key, upload.multipart_id)
    objects.remove(upload.object.key)


def _empty() -> ValidationFailed:
    return ValidationFailed("the file is empty: there is nothing to run a model on", code="empty-input")


def _check_size(upload: Upload, size: int) -> None:
    if size != upload.object.size:
        raise ValidationFailed(
            f"upload {upload.id} was announced with {upload.object.size} bytes, and {size} came: "
            "announce the right size in a new upload",
            code="size-mismatch",
            announced_size=upload.object.size,
            size=size,
        )


def _check_digest(announced: str | None, spooled: Spooled) -> None:
    if announced not in (None, spooled.sha256):
        raise ValidationFailed(
            f"the bytes that came have the SHA-256 {spooled.sha256}, and {announced} was announced: send them again",
            code="checksum-mismatch",
            announced_sha256=announced,
            sha256=spooled.sha256,
        )


def _check_parts(parts: Sequence[PartRequest], count: int) -> None:
    numbers = sorted(part.number for part in parts)
    if numbers != list(range(1, count + 1)):
        message = f"`parts` must name each part from 1 to {count} once"
        raise ValidationFailed(message, [{"detail": message, "pointer": "#/parts"}])
