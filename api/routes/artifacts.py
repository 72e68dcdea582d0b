"""/api/v1/jobs/{id}/artifacts: the files that a job made."""

from collections.abc import Iterator

from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from api.guarded import guarded_router, problems
from api.routes.jobs import known_id
from api.services import Core, Tenant
from api.views import API
from fleet.errors import NotFound
from fleet.objects import content_disposition

router = guarded_router(f"{API}/jobs", "jobs")
_OCTETS = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.get(
    "/{job_id}/artifacts/{name}",
    status_code=307,
    response_class=Response,
    responses={
        200: {"description": "The bytes, with `OBJECT_ACCESS=proxy`", **_OCTETS},
        304: {"description": "The bytes that you have, by `If-None-Match`"},
        307: {"description": "To the object store"},
        **problems(404),
    },
)
def get_artifact(job_id: str, name: str, request: Request, core: Core, tenant: Tenant) -> Response:
    """A redirect to a presigned URL, or the bytes themselves with `OBJECT_ACCESS=proxy`."""
    job = core.jobs.get(known_id(job_id), tenant)
    artifact = next((artifact for artifact in job.artifacts if artifact.name == name), None)
    if artifact is None:
        names = ", ".join(artifact.name for artifact in job.artifacts) or "none"
        raise NotFound(f"job {job.id} has no artifact of this name; it has: {names}", code="artifact-not-found")
    # Downloads go under the artifact's name, whatever its object is called.
    stored = artifact.object.model_copy(update={"name": artifact.name})
    if core.settings.object_access == "presigned":
        # The URL expires: nobody may keep it.
        return RedirectResponse(core.objects.presigned_get(stored), 307, {"cache-control": "no-store"})
    headers = {"etag": f'"{stored.sha256}"', "cache-control": "private, no-cache"} if stored.sha256 else {}
    if stored.sha256 and stored.sha256 in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    chunks = core.objects.stream(stored)
    # Before the status is sent: an object that is gone must be an error and no broken download.
    first = next(chunks, b"")
    return StreamingResponse(
        _joined(first, chunks),
        headers={
            **headers,
            "content-length": str(stored.size),
            "content-disposition": content_disposition(artifact.name),
            "x-content-type-options": "nosniff",
        },
        media_type=stored.media_type,
    )


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
