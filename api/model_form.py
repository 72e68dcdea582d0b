"""A model as a form: `multipart/form-data` with fields and files. The files wait on disk until they are stored."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from api.model_requests import MAX_TEXT, FormFields
from fleet.errors import DependencyError, MalformedRequest
from fleet.model_source import InnerPath

_MAX_FILES, _MAX_FIELDS = 256, 64
_CHUNK = 1024 * 1024
#: Fields that are texts, whether they come as a file or not.
_TEXTS = ("manifest", "config")
_FILES = ("file", "files")
_MANY = ("aliases", "alias")
_PATH: TypeAdapter[str] = TypeAdapter(InnerPath)


@dataclass(frozen=True)
class FormFile:
    """`path` is the one in the version's folder."""

    path: str
    file: BinaryIO
    size: int
    sha256: str


@dataclass(frozen=True)
class ModelForm:
    fields: FormFields
    files: list[FormFile]


@asynccontextmanager
async def model_form(request: Request) -> AsyncIterator[ModelForm]:
    """The form, its files open until the end of the block.

    Raises RequestValidationError for its fields, MalformedRequest `invalid-form`, InputTooLarge (see `body_limit`),
    DependencyError `scratch-unavailable`.
    """
    try:
        sent = await request.form(max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=MAX_TEXT)
    except HTTPException as error:
        raise MalformedRequest(f"the form cannot be read: {error.detail}", code="invalid-form") from error
    except OSError as error:
        raise DependencyError(
            f"the server's temporary folder cannot take the upload: {error.strerror}", code="scratch-unavailable"
        ) from error
    try:
        yield await run_in_threadpool(_read, sent)
    finally:
        await sent.close()


def _read(sent: FormData) -> ModelForm:
    fields: dict[str, Any] = {}
    files: list[FormFile] = []
    for name, value in sent.multi_items():
        if isinstance(value, UploadFile) and name not in _TEXTS:
            files.append(_file(name, value))
        elif name in _MANY:
            fields.setdefault("aliases", []).extend(part.strip() for part in str(value).split(",") if part.strip())
        elif name in fields:
            raise _fault(name, "is there twice")
        else:
            fields[name] = _text(name, value) if isinstance(value, UploadFile) else value
    manifest = fields.pop("manifest", None)
    if isinstance(manifest, str) and manifest.strip():
        fields |= _manifest(manifest)
    try:
        return ModelForm(FormFields.model_validate(fields), files)
    except ValidationError as error:
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from error


def _manifest(text: str) -> dict[str, Any]:
    """JSON is kept apart from the files; any other text becomes the file model.yaml, which a worker reads."""
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"manifest_text": text}
    return {"manifest": parsed}


def _file(name: str, sent: UploadFile) -> FormFile:
    if name not in _FILES:
        raise _fault(name, f"is no field for a file: files are sent as {' or '.join(map(repr, _FILES))}")
    try:
        path = _PATH.validate_python((sent.filename or "").removeprefix("./"))
    except ValidationError as error:
        raise _fault(name, f"has the unusable file name {sent.filename!r}: {error.errors()[0]['msg']}") from error
    hasher = hashlib.sha256()
    while chunk := sent.file.read(_CHUNK):
        hasher.update(chunk)
    size = sent.file.tell()
    sent.file.seek(0)
    return FormFile(path, sent.file, size, hasher.hexdigest())


def _text(name: str, sent: UploadFile) -> str:
    read = sent.file.read(MAX_TEXT + 1)
    if len(read) > MAX_TEXT:
        raise _fault(name, f"has more than {MAX_TEXT} bytes")
    try:
        return read.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _fault(name, "is not UTF-8") from error


def _fault(name: str, what: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": ("body", name), "msg": f"`{name}` {what}"}])
