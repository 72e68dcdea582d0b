"""The inputs of a submit: from what the caller wrote to references that the record keeps.

A reference leads to bytes of the caller's tenant and nowhere else, and the bytes are there when the job is stored.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from api.requests import InputRequest, ObjectKey
from fleet.card import Card
from fleet.contracts import InlineInput, JobInput, MediaKind, ObjectRef
from fleet.errors import ForeignObject, InputTooLarge, NotFound, ValidationFailed
from fleet.jobs import JobStore
from fleet.objects import ObjectStore
from fleet.uploads import Upload, UploadStore

#: Bytes of an input that may lie in the job's row.
MAX_INLINE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Resolved:
    inputs: list[JobInput]
    #: Uploads that now belong to the job.
    uploads: list[UUID]
    #: Jobs whose results it reads.
    jobs: list[UUID]


class Inputs:
    def __init__(self, uploads: UploadStore, jobs: JobStore, objects: ObjectStore) -> None:
        self._uploads = uploads
        self._jobs = jobs
        self._objects = objects

    def resolve(self, requests: Sequence[InputRequest], tenant: str, card: Card) -> Resolved:
        """Raises ValidationFailed, ForeignObject, InputTooLarge, NotFound, DependencyError."""
        check_count(len(requests), card)
        wanted = [request.upload for request in requests if request.upload is not None]
        known = self._uploads.get_many(wanted, tenant) if wanted else {}
        inputs: list[JobInput] = []
        used: list[UUID] = []
        jobs: list[UUID] = []
        for number, request in enumerate(requests):
            if request.data is not None:
                inputs.append(JobInput(inline=_inline(request, request.data, number)))
                continue
            if request.object is not None:
                upload, reference, source_job = self._owned(request.object, tenant)
                jobs += [source_job] if source_job else []
            else:
                assert request.upload is not None  # noqa: S101 (the request's own check)
                upload, reference = known[request.upload], known[request.upload].object
            if upload is not None:
                self.check_arrived(upload)
                used.append(upload.id)
            inputs.append(JobInput(object=reference))
        return Resolved(inputs, used, jobs)

    def check_arrived(self, upload: Upload) -> None:
        """Raises ValidationFailed `upload-incomplete` or `size-mismatch` unless the announced bytes are there."""
        if upload.complete:
            return
        announced = upload.object.size
        try:
            size = self._objects.size_of(upload.object.bucket, upload.object.key)
        except NotFound as error:
            how = "PUT its parts and call `complete`" if upload.multipart_id else "PUT them at the ticket's `url`"
            raise ValidationFailed(
                f"the bytes of upload {upload.id} have not arrived: {how}",
                code="upload-incomplete",
                upload_id=str(upload.id),
            ) from error
        if size != announced:
            raise ValidationFailed(
                f"upload {upload.id} was announced with {announced} bytes, and {size} arrived: upload it again",
                code="size-mismatch",
                upload_id=str(upload.id),
                announced_size=announced,
                size=size,
            )

    def _owned(self, wanted: ObjectKey, tenant: str) -> tuple[Upload | None, ObjectRef, UUID | None]:
        if wanted.bucket != self._objects.bucket:
            raise ForeignObject(
                f"the bucket {wanted.bucket!r} is not ours: inputs lie in {self._objects.bucket!r}; "
                "upload the bytes instead",
                bucket=wanted.bucket,
            )
        match wanted.key.split("/"):
            case ["uploads", owner, *_] if owner == tenant:
                upload = self._uploads.find_by_key(wanted.bucket, wanted.key, tenant)
                if upload is not None:
                    return upload, upload.object, None
            case ["results", job_id, _, *_]:
                reference = self._result(job_id, wanted.key, tenant)
                if reference is not None:
                    return None, reference, UUID(job_id)
            case _:
                raise ForeignObject("the object is neither an upload nor a result of yours", key=wanted.key)
        raise NotFound("there is no such object of yours", code="object-not-found", key=wanted.key)

    def _result(self, job_id: str, key: str, tenant: str) -> ObjectRef | None:
        try:
            job = self._jobs.get(UUID(job_id), tenant)
        except (ValueError, NotFound):
            return None
        return next((artifact.object for artifact in job.artifacts if artifact.object.key == key), None)


def check_count(count: int, card: Card) -> None:
    """Raises ValidationFailed when a model is given more or fewer inputs than it reads."""
    if card.accepts is MediaKind.NONE:
        fits, needed = count == 0, "no input"
    elif card.accepts is MediaKind.VOLUME:
        fits, needed = count == 1, "exactly one input, a volume"
    else:
        fits, needed = count >= 1, "at least one input"
    if not fits:
        message = f"the model {card.name!r} takes {needed}, not {count}"
        raise ValidationFailed(message, [{"detail": message, "pointer": "#/inputs"}])


def _inline(request: InputRequest, data: str, number: int) -> InlineInput:
    where = f"#/inputs/{number}/data"
    if len(data) > (MAX_INLINE_BYTES + 2) // 3 * 4:
        raise InputTooLarge(
            f"{where}: inline data has at most {MAX_INLINE_BYTES} bytes: upload larger inputs (POST /api/v1/uploads)",
            max_bytes=MAX_INLINE_BYTES,
        )
    try:
        size = len(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError) as error:
        detail = "is not base64 (standard alphabet, padded, no line breaks)"
        raise ValidationFailed(f"{where} {detail}", [{"detail": detail, "pointer": where}]) from error
    if size == 0:
        raise ValidationFailed(f"{where} is empty", [{"detail": "is empty", "pointer": where}], code="empty-input")
    if size > MAX_INLINE_BYTES:
        raise InputTooLarge(
            f"{where}: inline data has at most {MAX_INLINE_BYTES} bytes, not {size}: upload it (POST /api/v1/uploads)",
            max_bytes=MAX_INLINE_BYTES,
        )
    return InlineInput(data=data, name=request.name, media_type=request.media_type or "application/octet-stream")
