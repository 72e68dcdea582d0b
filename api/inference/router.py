"""/api/v1/inference: a picture in, an answer out; many pictures as one job; how all of it does."""

from typing import Annotated, Any

from fastapi import Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.document import IDEMPOTENCY_KEY, PREFER, TRACEPARENT
from api.guarded import guarded_router, problems
from api.headers import idempotency_key, preferred_wait_s, trace_context
from api.inference.answer import InferenceView, inference_view
from api.inference.predictions import Call, failure
from api.inference.request import InferenceRequest
from api.inference.summary import SummaryView, summary_view
from api.routes.jobs import known_id
from api.services import BaseUrl, Core, Tenant
from api.submission import Caller
from api.views import API, location
from fleet.contracts import JobState
from fleet.job_values import Submitted

router = guarded_router(f"{API}/inference", "inference")
_HEADERS: dict[str, Any] = {"parameters": [PREFER, IDEMPOTENCY_KEY, TRACEPARENT]}
_REFUSALS = problems(400, 404, 409, 413, 415, 429, 500, 504)
#: What a request that does not wait for its job waits for a model that it brings along.
_MODEL_PATIENCE_S = 5.0


@router.post(
    "/predict",
    response_model=InferenceView,
    responses={202: {"model": InferenceView}, **_REFUSALS},
    openapi_extra=_HEADERS,
)
async def predict(body: InferenceRequest, request: Request, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """The answer, when there is one: at the latest after `MAX_WAIT_S`, or the seconds of `Prefer: wait=N`.

    202 with the job as it is when time is over; it goes on. A job that fails answers with its own error.
    """
    preferred = preferred_wait_s(request.headers, core.settings.max_wait_s)
    patience_s = core.settings.max_wait_s if preferred is None else preferred
    call = Call(body, _caller(request, tenant), patience_s, when_no_worker="refuse")
    submitted = await core.predictions.run(call)
    if submitted.job.state.ended and submitted.job.state is not JobState.SUCCEEDED:
        raise failure(body, submitted.job)
    return _answered(submitted, base_url, preferred)


@router.post(
    "/batch",
    status_code=202,
    response_model=InferenceView,
    responses={200: {"model": InferenceView}, **_REFUSALS},
    openapi_extra=_HEADERS,
)
async def batch(body: InferenceRequest, request: Request, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """The same request as a job that nobody waits for, unless `Prefer: wait=N` says so: many pictures are `images`."""
    preferred = preferred_wait_s(request.headers, core.settings.max_wait_s)
    patience_s = min(_MODEL_PATIENCE_S, core.settings.max_wait_s) if preferred is None else preferred
    call = Call(body, _caller(request, tenant), patience_s)
    submitted = await core.predictions.run(call, wait=preferred is not None)
    return _answered(submitted, base_url, preferred)


@router.get("/metrics/summary", response_model=SummaryView)
def get_summary(
    core: Core,
    tenant: Tenant,
    window_s: Annotated[float, Query(gt=0, le=31 * 86400, description="seconds back from now")] = 3600.0,
) -> Response:
    """How your jobs of all models did lately; at most two seconds old."""
    return summary_view(core.summaries.of(tenant, window_s)).answer(headers={"cache-control": "no-store"})


@router.get("/{job_id}", response_model=InferenceView, responses=problems(404), openapi_extra={"parameters": [PREFER]})
async def get_inference(job_id: str, request: Request, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """How far it is, and its answer; `Prefer: wait=N` waits up to N seconds for that."""
    preferred = preferred_wait_s(request.headers, core.settings.max_wait_s)
    with core.waiters.listen(known_id(job_id)) as bell:
        job = await run_in_threadpool(core.jobs.get, known_id(job_id), tenant)
        job = await bell.end_of(job, preferred or 0)
    headers = {} if preferred is None else {"preference-applied": f"wait={preferred}"}
    return inference_view(job, base_url).answer(headers=headers)


@router.post(
    "/{job_id}/cancel",
    response_model=InferenceView,
    responses={202: {"model": InferenceView}, **problems(404, 409)},
)
def cancel_inference(job_id: str, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """200 when it is cancelled, 202 while a worker stops it. May be repeated."""
    job = core.jobs.cancel(known_id(job_id), tenant)
    if job.state.ended:
        core.doorbell.ended([job])
    return inference_view(job, base_url).answer(200 if job.state.ended else 202)


def _caller(request: Request, tenant: str) -> Caller:
    return Caller(tenant, idempotency_key(request.headers), trace_context(request.headers))


def _answered(submitted: Submitted, base_url: str, preferred: int | None) -> Response:
    job = submitted.job
    headers = {"location": location(base_url, f"inference/{job.id}"), "fleet-job-id": str(job.id)}
    if submitted.replayed:
        headers["idempotency-replayed"] = "true"
    if preferred is not None:
        headers["preference-applied"] = f"wait={preferred}"
    return inference_view(job, base_url).answer(200 if job.state.ended else 202, headers)
