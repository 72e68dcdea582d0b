"""Which objects of the store a tenant may read, one by its key or all whose keys begin so.

uploads/{tenant}/...   uploads of the tenant that the record knows
results/{job}/...      artifacts of a job of the tenant
inputs/{tenant}/...    whatever the tenant, or who runs the fleet for it, has laid there; Fleet never removes it
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from api.requests import ObjectKey
from fleet.contracts import Artifact, ObjectRef
from fleet.errors import ForeignObject, InputTooLarge, NotFound, ValidationFailed
from fleet.jobs import JobStore
from fleet.objects import Found, ObjectStore
from fleet.uploads import Upload, UploadStore

#: Of one prefix.
MAX_OBJECTS = 1000


@dataclass(frozen=True)
class Owned:
    """A reference, and what it belongs to where that is an upload, or the result of a job."""

    object: ObjectRef
    upload: Upload | None = None
    job: UUID | None = None


class OwnedObjects:
    """Thread-safe. All methods raise ForeignObject for what is not the tenant's, and DependencyError."""

    def __init__(self, uploads: UploadStore, jobs: JobStore, objects: ObjectStore) -> None:
        self._uploads = uploads
        self._jobs = jobs
        self._objects = objects

    def one(self, wanted: ObjectKey, tenant: str) -> Owned:
        """The object of this very key. Raises NotFound `object-not-found`, or `upload-not-found` of an expired one."""
        self._check_bucket(wanted)
        match wanted.key.split("/"):
            case ["uploads", owner, *_] if owner == tenant:
                upload = self._uploads.find_by_key(wanted.bucket, wanted.key, tenant)
                if upload is not None:
                    return Owned(upload.object, upload=upload)
            case ["results", job_id, _, *_]:
                for owned in self._results(job_id, tenant, wanted.key):
                    if owned.object.key == wanted.key:
                        return owned
            case ["inputs", owner, *rest] if owner == tenant and _plain(rest) and rest[-1:] != [""]:
                size = self._objects.size_of(wanted.bucket, wanted.key)
                return Owned(ObjectRef(bucket=wanted.bucket, key=wanted.key, size=size))
            case _:
                raise _foreign(wanted.key, "the object is")
        raise NotFound("there is no such object of yours", code="object-not-found", key=wanted.key)

    def under(self, wanted: ObjectKey, tenant: str) -> list[Owned]:
        """Those whose keys begin with the wanted one, in the order of their names.

        Raises ValidationFailed `no-pictures` where there is none, InputTooLarge `too-many-files`.
        """
        self._check_bucket(wanted)
        prefix = wanted.key
        match prefix.split("/"):
            case ["uploads", owner, *rest] if owner == tenant and _plain(rest):
                found = sorted(self._of_uploads(prefix, tenant), key=_by_name)
            case ["results", job_id, *rest] if _plain(rest):
                found = sorted(self._results(job_id, tenant, prefix), key=lambda one: one.object.key)
            case ["inputs", owner, *rest] if owner == tenant and _plain(rest):
                found = [Owned(_reference(self._objects.bucket, one)) for one in self._listed(prefix)]
            case _:
                raise _foreign(prefix, "what begins so is")
        if not found:
            raise ValidationFailed(f"there is no object of yours under {prefix!r}", code="no-pictures", key=prefix)
        return found

    def _check_bucket(self, wanted: ObjectKey) -> None:
        if wanted.bucket != self._objects.bucket:
            raise ForeignObject(
                f"the bucket {wanted.bucket!r} is not ours: inputs lie in {self._objects.bucket!r}; "
                "upload the bytes instead",
                bucket=wanted.bucket,
            )

    def _results(self, job_id: str, tenant: str, prefix: str) -> Iterator[Owned]:
        try:
            job = self._jobs.get(UUID(job_id), tenant)
        except (ValueError, NotFound):
            return
        for artifact in _beginning(job.artifacts, prefix):
            yield Owned(artifact.object, job=job.id)

    def _of_uploads(self, prefix: str, tenant: str) -> Iterator[Owned]:
        """Those whose bytes have arrived: others have no object."""
        listed = {one.key: one for one in self._listed(prefix)}
        for upload in self._uploads.known([upload_id for key in listed if (upload_id := _upload_id(key))], tenant):
            there = listed.get(upload.object.key)
            if there is not None and there.size == upload.object.size:
                yield Owned(upload.object, upload=upload)

    def _listed(self, prefix: str) -> list[Found]:
        """In the order of their keys, which is not every store's own."""
        found = self._objects.page(prefix, None, MAX_OBJECTS + 1)
        if len(found) > MAX_OBJECTS:
            raise InputTooLarge(
                f"there are more than {MAX_OBJECTS:,} objects under {prefix!r}: name a longer prefix, or send a zip",
                code="too-many-files",
                limit=MAX_OBJECTS,
            )
        # What ends so is a folder of those that make one an object.
        return sorted((one for one in found if _within(one.key, prefix)), key=lambda one: one.key)


def _by_name(owned: Owned) -> tuple[str, str]:
    """Ids come before the names in keys of uploads."""
    return owned.object.name or "", owned.object.key


def _plain(segments: list[str]) -> bool:
    """A prefix may end with a slash or within a name. Stores that have folders would follow the others."""
    return bool(segments) and not {".", ".."} & set(segments) and "" not in segments[:-1]


def _within(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and not key.endswith("/")


def _beginning(artifacts: Iterable[Artifact], prefix: str) -> Iterator[Artifact]:
    return (artifact for artifact in artifacts if artifact.object.key.startswith(prefix))


def _reference(bucket: str, found: Found) -> ObjectRef:
    return ObjectRef(bucket=bucket, key=found.key, size=found.size)


def _upload_id(key: str) -> UUID | None:
    try:
        return UUID(key.split("/")[2])
    except (ValueError, IndexError):
        return None


def _foreign(key: str, what: str) -> ForeignObject:
    return ForeignObject(f"{what} neither an upload, nor a result, nor an input of yours", key=key)
