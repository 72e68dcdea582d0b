"""/runpod/v2/{endpoint}: RunPod's serverless jobs, one more dialect of the durable job.

An endpoint is a model, as `name`, `name@alias` or `name@3`; at `default` each request names its own.
"""

from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from api.body_limit import allow_body
from api.headers import idempotency_key, trace_context
from api.inference.predictions import Call
from api.job_items import JobItems
from api.openai import models as openai_models
from api.openai.embedding import embeddings
from api.openai.refusal import Refusal
from api.openai.route import OpenAIRoute, form_router, with_the_rest
from api.routes.jobs import known_id, page_cursor
from api.runpod.job import brief, job_object, status_of
from api.runpod.request import DEFAULT, LABEL, in_run, inference_of, read_run, wait_s
from api.runpod.route import PREFIX, RunpodRoute
from api.runpod.stream import Streams
from api.services import BaseUrl, Core, Services, Tenant
from api.submission import Caller
from fleet.card import Card
from fleet.catalogue import WorkerRow
from fleet.contracts import Job, JobState
from fleet.endpoints import Endpoints
from fleet.errors import FleetError, MalformedRequest, NotFound
from fleet.job_values import JobFilter, Submitted
from fleet.model_names import ModelReference
from fleet.parts import PartStore

_ENDPOINT = f"{PREFIX}/{{endpoint}}"
_OPENAI = f"{_ENDPOINT}/openai/v1"
#: RunPod's own; the server's MAX_BODY_BYTES where that is less.
_RUN_BYTES, _RUNSYNC_BYTES = 10_000_000, 20_000_000
#: RunPod's client gives a submit ten seconds: so long one waits for a model that it brings along.
_MODEL_PATIENCE_S = 5.0
_LARGE_BYTES = 64 * 1024
#: Of purged jobs: whoever waits for one of the others finds out half a second later.
_TOLD = 1000
_REFERENCE: TypeAdapter[str] = TypeAdapter(ModelReference)
_known, _openai = form_router(RunpodRoute), form_router(OpenAIRoute)


@_known.post(f"{_ENDPOINT}/run")
async def run(endpoint: str, request: Request, core: Core, tenant: Tenant) -> Response:
    submitted = await _submitted(endpoint, request, core, tenant, _RUN_BYTES, None)
    return _json(brief(submitted.job), submitted)


@_known.post(f"{_ENDPOINT}/runsync")
async def runsync(  # noqa: PLR0917 (the framework passes them by name)
    endpoint: str, request: Request, core: Core, tenant: Tenant, base_url: BaseUrl, wait: str | None = None
) -> Response:
    """The job, when it has ended within the time; else how far it is."""
    patience_s = min(wait_s(wait), float(core.settings.max_wait_s))
    submitted = await _submitted(endpoint, request, core, tenant, _RUNSYNC_BYTES, patience_s)
    job = submitted.job
    return _json(job_object(job, base_url) if job.state.ended else brief(job), submitted)


@_known.get(f"{_ENDPOINT}/status/{{job_id}}")
def status(endpoint: str, job_id: str, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    return _json(job_object(_job(core, endpoint, job_id, tenant), base_url))


@_known.get(f"{_ENDPOINT}/stream/{{job_id}}")
def stream(endpoint: str, job_id: str, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    """What was not told yet. Of a cancelled job 410: RunPod's client would ask for ever otherwise."""
    job = _job(core, endpoint, job_id, tenant)
    if job.state is JobState.CANCELLED:
        refusal = Refusal(HTTPStatus.GONE, "job-cancelled", f"job {job.id} was cancelled: nothing more will come")
        return RunpodRoute.form(refusal)
    streams = Streams(Endpoints(core.database), JobItems(PartStore(core.database, core.objects), core.objects))
    told = {**brief(job), "stream": streams.next(job, base_url)}
    if job.state in (JobState.FAILED, JobState.EXPIRED):
        told["error"] = job_object(job, base_url)["error"]
    return _json(told)


@_known.post(f"{_ENDPOINT}/cancel/{{job_id}}")
def cancel(endpoint: str, job_id: str, core: Core, tenant: Tenant) -> Response:
    """Never waits for a worker to stop: until then `status` says IN_PROGRESS."""
    job = core.jobs.cancel(_job(core, endpoint, job_id, tenant).id, tenant)
    if job.state.ended:
        core.doorbell.ended([job])
    return _json({"id": str(job.id), "status": "CANCELLED"})


@_known.post(f"{_ENDPOINT}/retry/{{job_id}}")
def retry(endpoint: str, job_id: str, core: Core, tenant: Tenant) -> Response:
    """One that failed or timed out: the same id and input, what it had answered is gone."""
    job = _job(core, endpoint, job_id, tenant)
    if job.state not in (JobState.FAILED, JobState.EXPIRED):
        raise MalformedRequest(
            f"job {job.id} is {status_of(job)}: only one that is FAILED or TIMED_OUT is retried", code="not-retryable"
        )
    return _json({"id": str(core.submission.retry(job.id, tenant, None).id), "status": "IN_QUEUE"})


@_known.post(f"{_ENDPOINT}/purge-queue")
def purge_queue(endpoint: str, core: Core, tenant: Tenant) -> Response:
    """Cancels what waits at this endpoint; what runs goes on."""
    _check_endpoint(core, endpoint, tenant)
    removed: list[UUID] = list(Endpoints(core.database).purge(tenant, {LABEL: endpoint}))
    core.doorbell.cancelled(removed[:_TOLD])
    return _json({"removed": len(removed), "status": "completed"})


@_known.get(f"{_ENDPOINT}/health")
def health(endpoint: str, core: Core, tenant: Tenant) -> Response:
    """Your newest ten thousand jobs of the endpoint, and the workers that can run its model, or any."""
    card = _check_endpoint(core, endpoint, tenant)
    counts = Endpoints(core.database).counts(tenant, {LABEL: endpoint})
    words = [live.word for live in core.catalogue.workers() if _can_run(live.word, endpoint, card)]
    states = counts.states
    jobs = {
        "completed": states.get("succeeded", 0),
        "failed": states.get("failed", 0) + states.get("expired", 0),
        "inProgress": states.get("running", 0),
        "inQueue": states.get("queued", 0),
        "retried": counts.retried,
        "cancelled": states.get("cancelled", 0),
    }
    running = sum(1 for word in words if word.running)
    workers = {"idle": len(words) - running, "running": running, "ready": len(words)}
    return _json({"jobs": jobs, "workers": workers})


@_known.get(f"{_ENDPOINT}/requests")
def requests(  # noqa: PLR0917 (the framework passes them by name)
    endpoint: str,
    core: Core,
    tenant: Tenant,
    base_url: BaseUrl,
    limit: str = "50",
    cursor: str | None = None,
) -> Response:
    """Your jobs of the endpoint, newest first."""
    _check_endpoint(core, endpoint, tenant)
    count = int(limit) if limit.isascii() and limit.isdecimal() and len(limit) < 4 else 0
    if not 1 <= count <= 200:
        raise MalformedRequest(f"?limit={limit[:32]}: must be 1 to 200")
    found = core.jobs.page(
        tenant,
        JobFilter(labels={LABEL: endpoint}),
        limit=count + 1,
        before=page_cursor(cursor),
    )
    shown = found[:count]
    after = str(shown[-1].id) if len(found) > count else None
    return _json({"requests": [job_object(job, base_url) for job in shown], "next_cursor": after})


@_openai.post(f"{_OPENAI}/embeddings")
async def create_embeddings(endpoint: str, request: Request, core: Core, tenant: Tenant) -> Response:
    """As /v1/embeddings: the body names the model, whatever the endpoint is."""
    return await embeddings(request, core, tenant)


@_openai.get(f"{_OPENAI}/models")
def list_models(endpoint: str, core: Core) -> Response:
    return _json(openai_models.listed(core.catalogue))


async def _submitted(  # noqa: PLR0917 (each of another type)
    endpoint: str, request: Request, core: Services, tenant: str, most_bytes: int, patience_s: float | None
) -> Submitted:
    """Without patience the job is not waited for. Raises FleetError whose pointers lead into this body."""
    _check_name(endpoint)
    allow_body(request.scope, min(most_bytes, core.settings.max_body_bytes))
    body = await request.body()
    waits_s = min(_MODEL_PATIENCE_S, core.settings.max_wait_s) if patience_s is None else patience_s
    read = partial(_call, body, endpoint, _caller(request, tenant), waits_s)
    call = await run_in_threadpool(read) if len(body) > _LARGE_BYTES else read()
    try:
        return await core.predictions.run(call, wait=patience_s is not None)
    except FleetError as error:
        raise in_run(error) from error


def _call(body: bytes, endpoint: str, caller: Caller, patience_s: float) -> Call:
    wanted = read_run(body)
    given = wanted.given
    try:
        asked = inference_of(endpoint, given)
    except FleetError as error:
        raise in_run(error) from error
    return Call(asked, caller, patience_s, more=wanted.job_fields(endpoint))


def _caller(request: Request, tenant: str) -> Caller:
    return Caller(tenant, idempotency_key(request.headers), trace_context(request.headers))


def _job(core: Services, endpoint: str, job_id: str, tenant: str) -> Job:
    """Raises NotFound for one of another endpoint, too."""
    job = core.jobs.get(known_id(job_id), tenant)
    if job.labels.get(LABEL) != endpoint:
        raise NotFound(f"there is no job {job.id} at the endpoint {endpoint[:200]!r}", code="job-not-found")
    return job


def _check_endpoint(core: Services, endpoint: str, tenant: str) -> Card | None:
    """Its model; None for `default`, and where the model is gone and jobs of it are left. Raises NotFound."""
    _check_name(endpoint)
    if endpoint == DEFAULT:
        return None
    try:
        return core.catalogue.get(endpoint).card
    except NotFound:
        if core.jobs.page(tenant, JobFilter(labels={LABEL: endpoint}), limit=1):
            return None
        raise


def _can_run(worker: WorkerRow, endpoint: str, card: Card | None) -> bool:
    return endpoint == DEFAULT or (card is not None and f"{card.name}/{card.version}" in worker.models)


def _check_name(endpoint: str) -> None:
    """Raises NotFound for what can be no model's name."""
    try:
        _REFERENCE.validate_python(endpoint)
    except ValidationError:
        raise NotFound(
            f"there is no endpoint {endpoint[:200]!r}: an endpoint is {DEFAULT!r}, or a model: `name`, `name@alias` or "
            "`name@3`",
            code="model-not-found",
        ) from None


def _json(content: dict[str, Any], submitted: Submitted | None = None) -> Response:
    headers = {"cache-control": "no-store"}
    if submitted is not None and submitted.replayed:
        headers["idempotency-replayed"] = "true"
    return Response(orjson.dumps(content), 200, headers, "application/json")


router = APIRouter()
router.include_router(with_the_rest(_openai, OpenAIRoute, _OPENAI))
router.include_router(with_the_rest(_known, RunpodRoute, PREFIX))
