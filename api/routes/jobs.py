"""/api/v1/jobs: submit, look, wait, cancel, retry, delete."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import Query, Request, Response
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from api.document import IDEMPOTENCY_KEY, PREFER, TRACEPARENT
from api.forecasts import Forecast
from api.guarded import guarded_router, problems
from api.headers import idempotency_key, preferred_wait_s, trace_context
from api.job_items import JobItems, begun
from api.requests import JobRequest, RetryRequest
from api.services import BaseUrl, Core, Services, Tenant
from api.submission import Caller
from api.views import API, JobPageView, JobView, job_view, location
from fleet.contracts import Job, JobState, PriorityName, ShownState
from fleet.errors import Conflict, NotFound, ValidationFailed
from fleet.ids import new_id
from fleet.job_values import JobFilter, Submitted
from fleet.parts import PartStore


def _dated(value: Any) -> Any:
    """Pydantic would also read a number, as seconds since 1970, which the document does not say."""
    if isinstance(value, str) and not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("must be a date and time such as 2026-01-31T12:00:00Z")
    return value


When = Annotated[datetime, BeforeValidator(_dated)]
router = guarded_router(f"{API}/jobs", "jobs")
#: What a DELETE waits for the object store before it leaves the rest to the sweeper.
_REMOVAL_S = 2.0


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    responses={200: {"model": JobView}, **problems(400, 404, 413, 415, 429)},
    openapi_extra={"parameters": [PREFER, IDEMPOTENCY_KEY, TRACEPARENT]},
)
async def submit_job(body: JobRequest, request: Request, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """Accepts a job: 202 means that it is stored and will not be lost.

    With `Prefer: wait=N` the answer comes when the job has ended (200), at the latest after N seconds (202).
    With `Idempotency-Key` a repeat returns the first job.
    """
    wait_s = preferred_wait_s(request.headers, core.settings.max_wait_s)
    caller = Caller(tenant, idempotency_key(request.headers), trace_context(request.headers))
    job_id = new_id()
    # Listen before the job exists: it may end before the submit has returned.
    with core.waiters.listen(job_id) as bell:
        submitted, forecast = await run_in_threadpool(_accepted, core, body, caller, job_id, wait_s)
        job = submitted.job
        if wait_s is not None and not submitted.replayed:
            job = await bell.end_of(job, wait_s)
    if wait_s is not None and submitted.replayed:
        job = await _end_of(core, job.id, tenant, wait_s)
    headers = {"location": location(base_url, f"jobs/{job.id}"), **_applied(wait_s)}
    if submitted.replayed:
        headers["idempotency-replayed"] = "true"
    ended = wait_s is not None and job.state.ended
    if wait_s is not None:
        forecast = None if job.state.ended else await run_in_threadpool(core.forecasts.of, job)
    return job_view(job, base_url, forecast).answer(200 if ended else 202, headers)


@router.get("", response_model=JobPageView)
def list_jobs(  # noqa: PLR0917 (the framework passes them by name)
    core: Core,
    tenant: Tenant,
    base_url: BaseUrl,
    state: ShownState | None = None,
    model: Annotated[str | None, Query(max_length=128)] = None,
    task: Annotated[str | None, Query(max_length=128)] = None,
    priority: PriorityName | None = None,
    label: Annotated[list[str], Query(max_length=32, description="`name:value`; several must all fit")] = [],  # noqa: B006
    created_after: When | None = None,
    created_before: When | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Your jobs, newest first."""
    where = JobFilter(
        state=state,
        model=_text(model, "model"),
        task=_text(task, "task"),
        priority=priority.rank if priority else None,
        labels=_labels(label),
        created_after=_utc(created_after),
        created_before=_utc(created_before),
    )
    # One more than asked for tells whether there is a next page.
    found = core.jobs.page(tenant, where, limit=limit + 1, before=page_cursor(cursor))
    jobs = found[:limit]
    page = JobPageView(
        jobs=[job_view(job, base_url) for job in jobs],
        next_cursor=jobs[-1].id.hex if len(found) > limit else None,
    )
    return page.answer()


@router.get("/{job_id}", response_model=JobView, responses=problems(404), openapi_extra={"parameters": [PREFER]})
async def get_job(job_id: str, request: Request, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """One job; `Prefer: wait=N` waits up to N seconds for its end."""
    wait_s = preferred_wait_s(request.headers, core.settings.max_wait_s)
    job = await _end_of(core, known_id(job_id), tenant, wait_s or 0)
    forecast = None if job.state.ended else await run_in_threadpool(core.forecasts.of, job)
    return job_view(job, base_url, forecast).answer(headers=_applied(wait_s))


@router.get(
    "/{job_id}/result",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}, **problems(404, 409)},
)
def get_result(job_id: str, core: Core, tenant: Tenant) -> Response:
    """The result alone."""
    job = core.jobs.get(known_id(job_id), tenant)
    if not job.state.ended:
        raise Conflict(
            f"job {job.id} has not ended: it is {job.shown_state.value}",
            code="job-not-ended",
            state=job.shown_state.value,
        )
    if job.state is not JobState.SUCCEEDED:
        reason = f": {job.error.message}" if job.error else ""
        raise Conflict(
            f"job {job.id} has no result, it is {job.state.value}{reason}",
            code="job-has-no-result",
            state=job.state.value,
            error=job.error.model_dump(mode="json") if job.error else None,
        )
    return Response(orjson.dumps(job.result or {}), media_type="application/json")


@router.get(
    "/{job_id}/items",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {}}}, **problems(404, 409)},
)
def get_items(
    job_id: str, core: Core, tenant: Tenant, first: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0
) -> Response:
    """The items of a job of many that are finished, a line of JSON each, from number `first` on; also while it runs."""
    job = core.jobs.get(known_id(job_id), tenant)
    items = JobItems(PartStore(core.database, core.objects), core.objects)
    headers = {"fleet-job-state": job.state.value}
    return StreamingResponse(begun(items.lines(job, first)), media_type="application/jsonl", headers=headers)


@router.post("/{job_id}/cancel", response_model=JobView, responses={202: {"model": JobView}, **problems(404, 409)})
def cancel_job(job_id: str, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """200 when the job is cancelled, 202 while a worker stops it. May be repeated."""
    job = core.jobs.cancel(known_id(job_id), tenant)
    if job.state.ended:
        core.doorbell.ended([job])
    return job_view(job, base_url).answer(200 if job.state.ended else 202)


@router.post("/{job_id}/retry", status_code=202, response_model=JobView, responses=problems(400, 404, 409, 415))
def retry_job(job_id: str, core: Core, tenant: Tenant, base_url: BaseUrl, body: RetryRequest | None = None) -> Response:
    """Queues a job once more that failed, was cancelled or has expired: the same id, and all its attempts again."""
    job = core.submission.retry(known_id(job_id), tenant, body.deadline_s if body else None)
    return job_view(job, base_url).answer(202, {"location": location(base_url, f"jobs/{job.id}")})


@router.delete(
    "/{job_id}",
    status_code=204,
    response_class=Response,
    responses={202: {"description": "It is hidden, and removed as soon as it has stopped"}, **problems(404)},
)
def delete_job(job_id: str, core: Core, tenant: Tenant) -> Response:
    """Removes the job with its results, and with the uploads that no other job uses. A running one is stopped.

    204 when all is gone, 202 when the rest follows within seconds. Either way nobody sees it from now on.
    """
    gone = core.removal.delete(known_id(job_id), tenant, _REMOVAL_S)
    return Response(status_code=204 if gone else 202)


def known_id(text: str) -> UUID:
    """Raises NotFound `job-not-found`: what is not an id belongs to no job."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"there is no job {text[:64]!r}", code="job-not-found") from None


def _accepted(
    core: Services, body: JobRequest, caller: Caller, job_id: UUID, wait_s: int | None
) -> tuple[Submitted, Forecast | None]:
    submitted = core.submission.submit(body, caller, job_id)
    # Whoever waits is told of the job as it is then.
    return submitted, core.forecasts.at_submit(submitted.job) if wait_s is None else None


async def _end_of(core: Services, job_id: UUID, tenant: str, wait_s: float) -> Job:
    with core.waiters.listen(job_id) as bell:
        return await bell.end_of(await run_in_threadpool(core.jobs.get, job_id, tenant), wait_s)


def _applied(wait_s: int | None) -> dict[str, str]:
    return {} if wait_s is None else {"preference-applied": f"wait={wait_s}"}


def _invalid(parameter: str, detail: str) -> ValidationFailed:
    return ValidationFailed(f"?{parameter}: {detail}", [{"detail": detail, "pointer": f"?{parameter}"}])


def _text(value: str | None, parameter: str) -> str | None:
    if value is not None and "\0" in value:
        raise _invalid(parameter, "must not contain the NUL character")
    return value


def _labels(given: list[str]) -> dict[str, Any] | None:
    for text in given:
        name, colon, _ = text.partition(":")
        if not (name and colon):
            raise _invalid("label", "must look like `name:value`")
        _text(text, "label")
    return dict(text.split(":", 1) for text in given) or None


def _utc(moment: datetime | None) -> datetime | None:
    """A time without a zone is UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def page_cursor(text: str | None) -> UUID | None:
    """Raises ValidationFailed."""
    try:
        return UUID(text) if text is not None else None
    except ValueError:
        raise _invalid("cursor", "is not one that this server gave: take `next_cursor` of the page before") from None
