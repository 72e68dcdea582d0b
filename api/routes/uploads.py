"""/api/v1/uploads: bytes on their way to a job."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.body_limit import allow_body, content_length
from api.guarded import guarded_router, is_json, problems
from api.names import clean_name
from api.requests import CompleteRequest, UploadRequest
from api.services import BaseUrl, Core, Services, Tenant
from api.spool import spooled
from api.views import API, TicketView, location
from fleet.errors import MalformedRequest, NotFound
from fleet.uploads import Upload

router = guarded_router(f"{API}/uploads", "uploads")
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.post(
    "",
    status_code=201,
    response_model=TicketView,
    responses=problems(400, 413),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": UploadRequest.model_json_schema()}, **_BINARY},
        }
    },
)
async def create_upload(  # noqa: PLR0917 (the framework passes them by name)
    request: Request,
    core: Core,
    tenant: Tenant,
    base_url: BaseUrl,
    name: Annotated[str, Query(max_length=4096, description="with a body that is the file itself")] = "file",
    sha256: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="of such a body; verified")] = None,
) -> Response:
    """With JSON: a ticket that says where to PUT the bytes. With any other type: the body itself is stored."""
    if is_json(request.headers):
        wanted = _upload_request(await request.body())
        upload = await run_in_threadpool(core.tickets.create, wanted, tenant)
    else:
        async with spooled(request) as body:
            upload = await run_in_threadpool(
                core.tickets.store_body,
                body,
                tenant,
                name=clean_name(name),
                media_type=_media_type(request),
                sha256=sha256,
            )
    return await _ticket(core, upload, base_url, status=201)


@router.put(
    "/{upload_id}/content",
    response_model=TicketView,
    responses=problems(404, 409, 413),
    openapi_extra={"requestBody": {"required": True, "content": _BINARY}},
)
async def put_content(upload_id: str, request: Request, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """The bytes through the API, where the ticket's `url` says so."""
    announced_bytes = content_length(request.headers)
    upload = await run_in_threadpool(core.tickets.awaiting_content, known_id(upload_id), tenant, announced_bytes)
    allow_body(request.scope, upload.object.size)
    async with spooled(request) as body:
        stored = await run_in_threadpool(core.tickets.store_content, upload, body)
    return await _ticket(core, stored, base_url)


@router.post("/{upload_id}/complete", response_model=TicketView, responses=problems(400, 404, 415))
def complete_upload(upload_id: str, body: CompleteRequest, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """Joins a multipart upload. May be repeated."""
    upload = core.tickets.complete(known_id(upload_id), tenant, body.parts)
    return core.tickets.view(upload, base_url).answer()


@router.get("/{upload_id}", response_model=TicketView, responses=problems(404))
def get_upload(upload_id: str, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """The ticket, with URLs that are signed anew."""
    return core.tickets.view(core.tickets.get(known_id(upload_id), tenant), base_url).answer()


@router.delete("/{upload_id}", status_code=204, response_class=Response, responses=problems(404, 409))
def delete_upload(upload_id: str, core: Core, tenant: Tenant) -> Response:
    """Removes the bytes, unless a job uses them."""
    core.tickets.delete(known_id(upload_id), tenant)
    return Response(status_code=204)


def known_id(text: str) -> UUID:
    """Raises NotFound `upload-not-found`: what is not an id belongs to no upload."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"there is no upload {text[:64]!r}", code="upload-not-found") from None


async def _ticket(core: Services, upload: Upload, base_url: str, status: int = 200) -> Response:
    view = await run_in_threadpool(core.tickets.view, upload, base_url)
    return view.answer(status, {"location": location(base_url, f"uploads/{upload.id}")} if status == 201 else None)


def _upload_request(body: bytes) -> UploadRequest:
    """Read by hand, since the same route also takes bodies that are no JSON."""
    try:
        return UploadRequest.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not JSON: {error}", code="invalid-json") from error
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        raise RequestValidationError(faults) from error


def _media_type(request: Request) -> str:
    """Type and subtype alone; parameters say nothing about the bytes of a file."""
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        return UploadRequest(name="file", size=1, media_type=sent).media_type
    except ValidationError:
        return "application/octet-stream"
