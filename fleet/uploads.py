"""Uploads: tickets for bytes on their way into the object store, until a job uses them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from fleet.contracts import ObjectRef
from fleet.database import Database, Row
from fleet.errors import NotFound
from fleet.sql import statements

_SQL = statements("uploads")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Upload:
    id: UUID
    tenant: str
    object: ObjectRef
    #: True when the bytes are known to be there.
    complete: bool
    multipart_id: str | None
    part_size: int | None
    expires_at: datetime
    #: A job refers to it: it lives as long as that job.
    used: bool
    expired: bool = False


class UploadStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        upload_id: UUID,
        tenant: str,
        reference: ObjectRef,
        *,
        ttl_s: float,
        complete: bool = False,
        multipart_id: str | None = None,
        part_size: int | None = None,
    ) -> Upload:
        row = self._database.one(
            _SQL["create_upload"],
            {
                "id": upload_id,
                "tenant": tenant,
                "bucket": reference.bucket,
                "key": reference.key,
                "name": reference.name,
                "size": reference.size,
                "sha256": reference.sha256,
                "media_type": reference.media_type,
                "state": "complete" if complete else "pending",
                "multipart_id": multipart_id,
                "part_size": part_size,
                "ttl_s": ttl_s,
            },
        )
        return upload_of(_found(row, upload_id))

    def get(self, upload_id: UUID, tenant: str) -> Upload:
        """Raises NotFound `upload-not-found`, also when it has expired unused."""
        return self.get_many([upload_id], tenant)[upload_id]

    def get_many(self, upload_ids: Sequence[UUID], tenant: str) -> dict[UUID, Upload]:
        """The same for several in one statement; raises for the first that is missing."""
        rows = self._database.run(_SQL["get_uploads"], {"ids": list(upload_ids), "tenant": tenant})
        uploads = {row["id"]: _alive(upload_of(row)) for row in rows}
        for upload_id in upload_ids:
            _found(uploads.get(upload_id), upload_id)
        return uploads

    def known(self, upload_ids: Sequence[UUID], tenant: str) -> list[Upload]:
        """Those of them that a job may use."""
        rows = self._database.run(_SQL["get_uploads"], {"ids": list(upload_ids), "tenant": tenant})
        return [upload for upload in map(upload_of, rows) if upload.used or not upload.expired]

    def find_by_key(self, bucket: str, key: str, tenant: str) -> Upload | None:
        """Raises NotFound `upload-not-found` when it has expired unused."""
        row = self._database.one(_SQL["find_upload_by_key"], {"bucket": bucket, "key": key, "tenant": tenant})
        return _alive(upload_of(row)) if row else None

    def complete(self, upload_id: UUID, tenant: str, sha256: str | None = None) -> Upload:
        parameters = {"id": upload_id, "tenant": tenant, "sha256": sha256}
        return upload_of(_found(self._database.one(_SQL["complete_upload"], parameters), upload_id))

    def give_up(self, upload_id: UUID, tenant: str) -> Upload | None:
        """From now on no job can take it: remove its object, then `delete` it. None when a job uses it."""
        row = self._database.one(_SQL["give_up_upload"], {"id": upload_id, "tenant": tenant})
        return upload_of(row) if row else None

    def delete(self, upload_id: UUID, tenant: str) -> Upload | None:
        """The deleted upload, whose object was removed before; None when a job uses it or it is unknown."""
        row = self._database.one(_SQL["delete_upload"], {"id": upload_id, "tenant": tenant})
        return upload_of(row) if row else None

    def stale(self, limit: int) -> list[Upload]:
        """Unused uploads past their time: remove their objects, then `delete` them."""
        return [upload_of(row) for row in self._database.run(_SQL["stale_uploads"], {"limit": limit})]


def _found(what: Found | None, upload_id: UUID) -> Found:
    if what is None:
        raise NotFound(f"there is no upload {upload_id}", code="upload-not-found", upload_id=str(upload_id))
    return what


def _alive(upload: Upload) -> Upload:
    if upload.expired and not upload.used:
        raise NotFound(f"upload {upload.id} has expired: upload the file again", code="upload-not-found")
    return upload


def upload_of(row: Row) -> Upload:
    reference = ObjectRef(
        bucket=row["bucket"],
        key=row["key"],
        size=row["size"],
        sha256=row["sha256"],
        media_type=row["media_type"],
        name=row["name"],
    )
    return Upload(
        id=row["id"],
        tenant=row["tenant"],
        object=reference,
        complete=row["state"] == "complete",
        multipart_id=row["multipart_id"],
        part_size=row["part_size"],
        expires_at=row["expires_at"],
        used=row["used_at"] is not None,
        expired=row.get("expired", False),
    )
