"""Bytes by reference: the object store, any S3, through the minio SDK.

Every object that Fleet writes carries its SHA-256, and every object that it reads is checked against it.
Keys: `uploads/{tenant}/{upload}/{name}` and `results/{job}/{attempt}/{name}`; others fill `inputs/{tenant}/...`.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote
from uuid import UUID

import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from fleet.contracts import ObjectRef
from fleet.errors import DependencyError, IntegrityError, NotFound
from fleet.settings import Settings

CHUNK = 1024 * 1024
#: A read that hangs cannot be stopped, so it must not hang for long; whoever can wait asks again.
_CONNECT_S, _READ_S = 3.0, 20.0
#: What S3 says when the thing, or a part of it, is not there.
_MISSING = frozenset({"NoSuchKey", "NoSuchObject", "NoSuchUpload", "InvalidPart", "EntityTooSmall"})


@dataclass(frozen=True)
class StoredPart:
    number: int
    etag: str


@dataclass(frozen=True)
class Found:
    """An object, or a multipart upload under way, as the store lists it. Its time is the store's clock."""

    key: str
    since: datetime
    #: Of a multipart upload; empty for an object.
    multipart_id: str = ""
    #: Bytes of an object.
    size: int = 0


def upload_key(tenant: str, upload_id: UUID, name: str) -> str:
    return f"uploads/{tenant}/{upload_id}/{name}"


def result_key(job_id: UUID, attempt: int, name: str) -> str:
    """The fencing token is part of the key: a loser never overwrites the winner."""
    return f"{results_prefix(job_id)}{attempt}/{name}"


def results_prefix(job_id: UUID) -> str:
    """Of everything that the attempts of a job have stored."""
    return f"results/{job_id}/"


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_disposition(name: str) -> str:
    """The header that downloads under this name: an ASCII form, and the full one of RFC 6266 where they differ."""
    plain = "".join(letter if " " <= letter <= "~" and letter not in '"\\%' else "_" for letter in name)
    full = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{full}'


class ObjectStore:
    """One bucket. Thread-safe. All methods raise DependencyError `object-store-unavailable` when S3 fails."""

    def __init__(self, settings: Settings) -> None:
        self.bucket = settings.minio_bucket
        self._ttl = timedelta(seconds=settings.presigned_ttl_s)
        self._client = self._connect(settings, settings.minio_endpoint)
        # Users may know the store by another name than we do; signing needs no connection.
        self._public = self._connect(settings, settings.minio_public_endpoint or settings.minio_endpoint)

    @staticmethod
    def _connect(settings: Settings, endpoint: str) -> Minio:
        secure = settings.minio_secure
        if "://" in endpoint:
            scheme, _, endpoint = endpoint.partition("://")
            secure = scheme == "https"
        return Minio(
            endpoint.rstrip("/"),
            access_key=settings.minio_access_key or None,
            secret_key=settings.minio_secret_key.get_secret_value() or None,
            secure=secure,
            region=settings.minio_region,
            http_client=urllib3.PoolManager(
                maxsize=32,
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
                retries=urllib3.Retry(total=2, read=1, backoff_factor=0.2, status_forcelist=[502, 503, 504]),
            ),
        )

    def ensure_bucket(self) -> None:
        """Makes the bucket when it is missing."""
        with _s3_errors("the bucket"):
            if not self._client.bucket_exists(self.bucket):
                self._client.make_bucket(self.bucket)

    def check(self) -> None:
        """Raises unless the store answers and the bucket exists."""
        with _s3_errors("the bucket"):
            if not self._client.bucket_exists(self.bucket):
                raise DependencyError(
                    f"the bucket {self.bucket!r} does not exist: create it or set MINIO_BUCKET",
                    code="object-store-unavailable",
                )

    def put_file(self, key: str, path: Path, *, media_type: str, name: str, sha256: str | None = None) -> ObjectRef:
        """Stores a file, in parts when it is large; returns its reference with the digest.

        Give `sha256` when the digest is known already: it saves reading the file once more.
        """
        digest = sha256 or file_digest(path)
        with path.open("rb") as stream:
            return self.put_stream(key, stream, path.stat().st_size, digest, media_type=media_type, name=name)

    def put_bytes(self, key: str, data: bytes, *, media_type: str, name: str) -> ObjectRef:
        digest = hashlib.sha256(data).hexdigest()
        return self.put_stream(key, io.BytesIO(data), len(data), digest, media_type=media_type, name=name)

    def put_stream(self, key: str, data: BinaryIO, size: int, digest: str, *, media_type: str, name: str) -> ObjectRef:
        with _s3_errors(key):
            self._client.put_object(self.bucket, key, data, size, content_type=media_type, metadata={"sha256": digest})
        return ObjectRef(bucket=self.bucket, key=key, size=size, sha256=digest, media_type=media_type, name=name)

    def fetch(self, reference: ObjectRef, path: Path, on_chunk: Callable[[int], None] | None = None) -> ObjectRef:
        """Writes the object to `path`; returns the reference with its digest.

        Raises IntegrityError when size or SHA-256 differ from the reference, NotFound `object-not-found`.
        """
        hasher, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            for chunk in self.stream(reference):
                size += len(chunk)
                if size > reference.size:
                    break
                hasher.update(chunk)
                file.write(chunk)
                if on_chunk is not None:
                    on_chunk(size)
        digest = hasher.hexdigest()
        if size != reference.size or reference.sha256 not in (None, digest):
            path.unlink(missing_ok=True)
            raise IntegrityError(
                f"{reference.name or reference.key} differs from what was announced: "
                f"{'more than ' if size > reference.size else ''}{size} bytes with SHA-256 {digest}, "
                f"announced {reference.size} bytes with SHA-256 {reference.sha256 or 'unknown'}; upload it again",
                size=size,
                announced_size=reference.size,
                sha256=digest,
                announced_sha256=reference.sha256,
            )
        return reference.model_copy(update={"sha256": digest})

    def stream(self, reference: ObjectRef, offset: int = 0) -> Iterator[bytes]:
        """The bytes in chunks, unchecked, from `offset` on."""
        with _s3_errors(reference.key):
            response = self._client.get_object(reference.bucket, reference.key, offset=offset)
            try:
                yield from response.stream(CHUNK)
            finally:
                response.close()
                response.release_conn()

    def size_of(self, bucket: str, key: str) -> int:
        """Bytes. Raises NotFound `object-not-found`."""
        with _s3_errors(key):
            return cast(int, self._client.stat_object(bucket, key).size)

    def written_at(self, key: str) -> datetime:
        """The store's clock when the object was written. Raises NotFound `object-not-found`."""
        with _s3_errors(key):
            return _moment(self._client.stat_object(self.bucket, key).last_modified)

    def presigned_put(self, key: str) -> str:
        with _s3_errors(key):
            return self._public.presigned_put_object(self.bucket, key, expires=self._ttl)

    def presigned_get(self, reference: ObjectRef) -> str:
        """A URL that downloads the object under its name."""
        name = reference.name or reference.key.rsplit("/", 1)[-1]
        headers: dict[str, str | list[str] | tuple[str]] = {
            "response-content-disposition": content_disposition(name),
            "response-content-type": reference.media_type,
        }
        with _s3_errors(reference.key):
            return self._public.presigned_get_object(
                reference.bucket, reference.key, expires=self._ttl, response_headers=headers
            )

    def start_multipart(self, key: str, media_type: str) -> str:
        """The store's id of a new multipart upload."""
        with _s3_errors(key):
            return self._client._create_multipart_upload(self.bucket, key, {"Content-Type": media_type})

    def presigned_part(self, key: str, multipart_id: str, number: int) -> str:
        with _s3_errors(key):
            return self._public.get_presigned_url(
                "PUT",
                self.bucket,
                key,
                expires=self._ttl,
                extra_query_params={"partNumber": str(number), "uploadId": multipart_id},
            )

    def complete_multipart(self, key: str, multipart_id: str, parts: Sequence[StoredPart]) -> None:
        """Joins the parts. Raises NotFound `object-not-found` when the store knows no such upload or part."""
        joined = [Part(part.number, part.etag.strip('"')) for part in sorted(parts, key=lambda p: p.number)]
        with _s3_errors(key):
            self._client._complete_multipart_upload(self.bucket, key, multipart_id, joined)

    def abort_multipart(self, key: str, multipart_id: str) -> None:
        with _s3_errors(key):
            self._client._abort_multipart_upload(self.bucket, key, multipart_id)

    def remove(self, key: str) -> None:
        """Also succeeds when there is no such object."""
        with _s3_errors(key):
            self._client.remove_object(self.bucket, key)

    def remove_prefix(self, prefix: str) -> None:
        """Removes every object whose key begins so."""
        refused = self.remove_all(self.keys(prefix))
        if refused:
            raise DependencyError(
                f"{len(refused)} objects under {prefix!r} could not be removed: {next(iter(refused.values()))}",
                code="object-store-unavailable",
            )

    def remove_all(self, keys: Sequence[str]) -> dict[str, str]:
        """Removes objects, a thousand with each request; which of them the store refused to remove, and why."""
        refused: dict[str, str] = {}
        with _s3_errors("objects to remove"):
            for fault in self._client.remove_objects(self.bucket, map(DeleteObject, keys)) if keys else ():
                if not fault.name:
                    raise _unavailable("objects to remove", fault)
                if fault.code not in _MISSING:
                    refused[fault.name] = fault.code or "unknown"
        return refused

    def page(self, prefix: str, after: str | None, limit: int) -> list[Found]:
        """Objects under a prefix in the store's own order, from the one that follows `after`."""
        with _s3_errors(prefix):
            listed = self._client.list_objects(self.bucket, prefix=prefix, recursive=True, start_after=after)
            taken = list(islice(listed, limit))
        return [Found(str(one.object_name), _moment(one.last_modified), size=one.size or 0) for one in taken]

    def unfinished(self, prefix: str) -> list[Found]:
        """Up to a thousand multipart uploads under way. MinIO tells none, and ends them itself after a day."""
        with _s3_errors(prefix):
            listed = self._client._list_multipart_uploads(self.bucket, prefix=prefix).uploads
        return [Found(item.object_name, _moment(item.initiated_time), item.upload_id or "") for item in listed]

    def keys(self, prefix: str) -> list[str]:
        with _s3_errors(prefix):
            found = self._client.list_objects(self.bucket, prefix=prefix, recursive=True)
            return [cast(str, item.object_name) for item in found]


def _moment(told: datetime | None) -> datetime:
    """Without a time an object counts as new: it is left alone."""
    return told or datetime.max.replace(tzinfo=UTC)


@contextmanager
def _s3_errors(what: str) -> Iterator[None]:
    """Foreign errors become ours, once, here."""
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING:
            raise NotFound(f"the object store has no {what}", code="object-not-found", object=what) from error
        raise _unavailable(what, error) from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise _unavailable(what, error) from error


def _unavailable(what: str, error: Any) -> DependencyError:
    reason = getattr(error, "code", None) or type(error).__name__
    return DependencyError(
        f"the object store failed for {what}: {reason}; try again shortly", code="object-store-unavailable"
    )
