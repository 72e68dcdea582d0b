"""The inputs of a submit: from what the caller wrote to references that the record keeps.

A reference leads to bytes of the caller's tenant and nowhere else, and the bytes are there when the job is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from api.inline import Inline, parse_data
from api.owned_objects import MAX_OBJECTS, Owned, OwnedObjects
from api.requests import InputRequest, ObjectKey
from fleet.card import Card
from fleet.contracts import InlineInput, JobInput, LinkInput, MediaKind
from fleet.errors import InputTooLarge, NotFound, UrlRefused, ValidationFailed
from fleet.jobs import JobStore
from fleet.kept_inputs import MAX_KEPT_BYTES, MAX_KEPT_TOTAL_BYTES, described
from fleet.objects import ObjectStore, upload_key
from fleet.outward import Outward
from fleet.tensors import TASK_NAME
from fleet.uploads import Upload, UploadStore

#: Bytes of an input that may lie in the job's row.
MAX_INLINE_BYTES = 64 * 1024
#: Of all of them: rows are read by the page.
MAX_INLINE_TOTAL_BYTES = 512 * 1024


@dataclass(frozen=True)
class Resolved:
    inputs: list[JobInput]
    #: Uploads that now belong to the job.
    uploads: list[UUID]
    #: Jobs whose results it reads.
    jobs: list[UUID]
    #: Bytes that the record keeps beside the job's row, by the number of the input.
    kept: dict[int, bytes]


class _Near:
    """What the record takes of the bytes that stand in one request: in the job's row, or beside it."""

    def __init__(self) -> None:
        self._row, self._beside = MAX_INLINE_TOTAL_BYTES, MAX_KEPT_TOTAL_BYTES
        #: Of those beside it, by the number of the input.
        self.kept: dict[int, bytes] = {}

    def taken(self, inline: Inline, name: str | None, number: int) -> JobInput | None:
        """As input `number` of the job; None where there is no room."""
        size = len(inline.content)
        if size <= min(MAX_INLINE_BYTES, self._row):
            self._row -= size
            return JobInput(inline=InlineInput(data=inline.text, name=name, media_type=inline.media_type))
        if size <= min(MAX_KEPT_BYTES, self._beside):
            self._beside -= size
            self.kept[number] = inline.content
            return JobInput(kept=described(inline.content, name, inline.media_type))
        return None


class Inputs:
    def __init__(
        self, uploads: UploadStore, jobs: JobStore, objects: ObjectStore, outward: Outward, *, upload_ttl_s: float
    ) -> None:
        """`outward` judges URLs that a worker will go to."""
        self._uploads = uploads
        self._objects = objects
        self._owned = OwnedObjects(uploads, jobs, objects)
        self._outward = outward
        self._upload_ttl_s = upload_ttl_s

    def resolve(self, requests: Sequence[InputRequest], tenant: str, card: Card, task: str) -> Resolved:
        """Of a job that does `task` with the model.

        Raises ValidationFailed, ForeignObject, InputTooLarge, NotFound, DependencyError.
        """
        check_count(len(requests), card, task)
        wanted = [request.upload for request in requests if request.upload is not None]
        known = self._uploads.get_many(wanted, tenant) if wanted else {}
        inputs: list[JobInput] = []
        near = _Near()
        used: list[UUID] = []
        jobs: list[UUID] = []
        for number, request in enumerate(requests):
            if request.url is not None:
                inputs.append(JobInput(link=self._link(request, request.url, number, card, task)))
                continue
            if request.data is not None:
                inline = parse_data(request, number)
                given = near.taken(inline, request.name, len(inputs))
                if given is None and not _pictures(card, task):
                    raise _too_large(number, len(inline.content))
                inputs.append(given or self._uploaded(inline, request.name, tenant, used))
                continue
            if request.prefix is not None:
                found = self._under(request.prefix, number, tenant, card, task)
                # Here too, before more are listed.
                _check_total(len(inputs) + len(found))
            elif request.object is not None:
                found = [self._owned.one(request.object, tenant)]
            else:
                assert request.upload is not None  # noqa: S101 (the request's own check)
                found = [Owned(known[request.upload].object, upload=known[request.upload])]
            for owned in found:
                if owned.upload is not None:
                    if request.prefix is None:
                        self.check_arrived(owned.upload)
                    used.append(owned.upload.id)
                jobs += [owned.job] if owned.job else []
                inputs.append(JobInput(object=owned.object, listed=request.prefix is not None))
        _check_total(len(inputs))
        return Resolved(inputs, used, list(dict.fromkeys(jobs)), near.kept)

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

    def _link(self, request: InputRequest, url: str, number: int, card: Card, task: str) -> LinkInput:
        where = f"#/inputs/{number}/url"
        if not _pictures(card, task):
            detail = f"only pictures are fetched from a URL, and the model {card.name!r} reads none: upload the bytes"
            raise ValidationFailed(f"{where}: {detail}", [{"detail": detail, "pointer": where}])
        try:
            self._outward.check(url)
        except UrlRefused as error:
            raise UrlRefused(f"{where}: {error.message}", code=error.code) from error
        return LinkInput(url=url, name=request.name)

    def _uploaded(self, inline: Inline, given_name: str | None, tenant: str, used: list[UUID]) -> JobInput:
        """What is too large for the record becomes an upload of the tenant, whose id is added to `used`."""
        upload_id, name = uuid4(), given_name or "picture"
        key = upload_key(tenant, upload_id, name)
        reference = self._objects.put_bytes(key, inline.content, media_type=inline.media_type, name=name)
        self._uploads.create(upload_id, tenant, reference, ttl_s=self._upload_ttl_s, complete=True)
        used.append(upload_id)
        return JobInput(object=reference)

    def _under(self, prefix: ObjectKey, number: int, tenant: str, card: Card, task: str) -> list[Owned]:
        where = f"#/inputs/{number}/prefix"
        if not _pictures(card, task):
            detail = f"only pictures are read from a prefix, and the model {card.name!r} reads none: name the objects"
            raise ValidationFailed(f"{where}: {detail}", [{"detail": detail, "pointer": where}])
        return self._owned.under(prefix, tenant)


def _pictures(card: Card, task: str) -> bool:
    return card.accepts is MediaKind.IMAGE and task != TASK_NAME


def _too_large(number: int, size: int) -> InputTooLarge:
    return InputTooLarge(
        f"#/inputs/{number}/data: inline data has at most {MAX_KEPT_BYTES:,} bytes, and of all inputs "
        f"{MAX_KEPT_TOTAL_BYTES:,}: upload these {size:,} (POST /api/v1/uploads)",
        max_bytes=MAX_KEPT_BYTES,
    )


def _check_total(count: int) -> None:
    """Raises InputTooLarge `too-many-files`: prefixes add up."""
    if count > MAX_OBJECTS:
        raise InputTooLarge(
            f"the inputs are {count:,} files, and a job takes at most {MAX_OBJECTS:,}: send several jobs, or a zip",
            code="too-many-files",
            limit=MAX_OBJECTS,
        )


def check_count(count: int, card: Card, task: str) -> None:
    """Raises ValidationFailed when a model is given more or fewer inputs than it reads."""
    if task == TASK_NAME:
        fits, needed = count == 1, f"exactly one input for the task {TASK_NAME!r}, a bundle of tensors"
    elif card.accepts is MediaKind.NONE:
        fits, needed = count == 0, "no input"
    elif card.accepts is MediaKind.VOLUME:
        fits, needed = count == 1, "exactly one input, a volume"
    elif card.accepts is MediaKind.TEXT:
        fits, needed = True, "its texts in the params or as inputs"
    elif card.accepts is MediaKind.IMAGE and "texts" in card.params_schema.get("properties", {}):
        fits, needed = True, "pictures, or texts in the params"
    else:
        fits, needed = count >= 1, "at least one input"
    if not fits:
        message = f"the model {card.name!r} takes {needed}, not {count}"
        raise ValidationFailed(message, [{"detail": message, "pointer": "#/inputs"}])
