"""/api/v1/jobs/{id}/events: a job's life as it happens, by server-sent events."""

from fastapi import Request, Response

from api.document import LAST_EVENT_ID
from api.event_streams import MEDIA_TYPE
from api.guarded import guarded_router, problems
from api.headers import last_event_id
from api.routes.jobs import known_id
from api.services import BaseUrl, Core, Tenant
from api.views import API

router = guarded_router(f"{API}/jobs", "jobs")
_STREAM = {MEDIA_TYPE: {"schema": {"type": "string"}}}


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {"description": "Events up to the end of the job", "content": _STREAM},
        204: {"description": "The event named by `Last-Event-ID` was the last one"},
        **problems(404),
    },
    openapi_extra={"parameters": [LAST_EVENT_ID]},
)
async def follow_job(job_id: str, request: Request, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """The job as it is, and again whenever it has changed, up to its end (server-sent events).

    The id of an event is the job's revision, its name says what has happened (`job.queued`, `job.started`,
    `job.progress`, `job.cancelling`, `job.succeeded`, `job.failed`, `job.cancelled`, `job.expired`, `job.deleted`),
    its data is the job. Send the last id as `Last-Event-ID` to go on after a connection broke.
    """
    return await core.event_streams.follow(known_id(job_id), tenant, base_url, last_event_id(request.headers))
