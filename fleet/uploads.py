"""Uploads: tickets for bytes on their way into the object store, until a job uses them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from fleet.contracts import ObjectRef
from fleet.database import Database, Row
from fleet.errors import NotFound
from fleet.sql import statements

_SQL = statements("uploads")


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
        return _upload(_found(row, upload_id))

    def get(self, upload_id: UUID, tenant: str) -> Upload:
        """Raises NotFound `upload-not-found`, also when it has expired unused."""
        row = _found(self._database.one(_SQL["get_upload"], {"id": upload_id, "tenant": tenant}), upload_id)
        upload = _upload(row)
        if upload.expired and not upload.used:
            raise NotFound(f"upload {upload_id} has expired: upload the file again", code="upload-not-found")
        return upload

    def find_by_key(self, bucket: str, key: str, tenant: str) -> Upload | None:
        row = self._database.one(_SQL["find_upload_by_key"], {"bucket": bucket, "key": key, "tenant": tenant})
        return _upload(row) if row else None

    def complete(self, upload_id: UUID, tenant: str, sha256: str | None = None) -> Upload:
        parameters = {"id": upload_id, "tenant": tenant, "sha256": sha256}
        return _upload(_found(self._database.one(_SQL["complete_upload"], parameters), upload_id))

    def delete(self, upload_id: UUID, tenant: str) -> Upload | None:
        """The deleted upload, whose object is then to be removed; None when a job uses it or it is unknown."""
        row = self._database.one(_SQL["delete_upload"], {"id": upload_id, "tenant": tenant})
        return _upload(row) if row else None

    def take_stale(self, limit: int) -> list[Upload]:
        """Deletes the records of unused uploads past their time; their objects are then to be removed."""
        return [_upload(row) for row in self._database.run(_SQL["take_stale_uploads"], {"limit": limit})]


def _found(row: Row | None, upload_id: UUID) -> Row:
    if row is None:
        raise NotFound(f"there is no upload {upload_id}", code="upload-not-found", upload_id=str(upload_id))
    return row


def _upload(row: Row) -> Upload:
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
