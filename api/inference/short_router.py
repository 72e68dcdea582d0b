"""The short form: GET /models, POST /inference, GET /healthz. Errors are {"detail", "code"}."""

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.headers import idempotency_key, trace_context
from api.inference.answer import wrapped
from api.inference.params import known_params
from api.inference.predictions import Call, failure
from api.inference.request import InferenceRequest
from api.openai.embedding import received
from api.openai.forms import short_form
from api.openai.refusal import Refusal
from api.openai.request import invalid, read_object
from api.openai.route import ShortRoute, form_router, with_the_rest
from api.services import BaseUrl, Core, Tenant
from api.submission import Caller
from fleet.catalogue import Entry
from fleet.contracts import JobState
from fleet.errors import RunStopped
from fleet.keys import ANONYMOUS

PREFIX = "/inference"
#: What takes longer to read than to hand to a thread.
_LARGE_BYTES = 64 * 1024
_known = form_router(ShortRoute)


class OpenRoute(ShortRoute):
    """For machines that watch: without a key."""

    @staticmethod
    def caller(request: Request) -> str:
        return ANONYMOUS


_models, _open = form_router(ShortRoute), form_router(OpenRoute)


@_known.post(PREFIX)
async def infer(request: Request, core: Core, tenant: Tenant, base_url: BaseUrl) -> Response:
    body = await received(request)
    asked = await run_in_threadpool(read_request, body) if len(body) > _LARGE_BYTES else read_request(body)
    caller = Caller(tenant, idempotency_key(request.headers), trace_context(request.headers))
    wait_s = core.settings.max_wait_s
    submitted = await core.predictions.run(Call(asked, caller, wait_s, when_no_worker="refuse", shared=True))
    job = submitted.job
    if not job.state.ended:
        raise RunStopped(
            f"job {job.id} has not ended within {wait_s:g} s and goes on: see /api/v1/inference/{job.id}",
            code="expired",
        )
    if job.state is not JobState.SUCCEEDED:
        raise failure(asked, job)
    headers = {"fleet-job-id": str(job.id), **({"idempotency-replayed": "true"} if submitted.replayed else {})}
    return _json(wrapped(job, base_url), headers=headers)


@_models.get("/models")
def list_models(core: Core) -> Response:
    """What can be asked, each in the version that a request without one gets."""
    models = [_described(entry) for entry in core.catalogue.entries() if not entry.unloaded]
    return _json({"models": models, "count": len(models)})


@_open.get("/healthz")
async def healthz(core: Core) -> Response:
    """200 when requests can be accepted."""
    health = await core.readiness.health()
    if health["status"] == "fail":
        failing = ", ".join(name for name, checks in health["checks"].items() if checks[0]["status"] == "fail")
        return short_form(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", f"not ready: {failing}"))
    return _json({"status": "ok"})


def read_request(body: bytes) -> InferenceRequest:
    """Raises MalformedRequest `invalid-json`, ValidationFailed with pointers to the faults."""
    return request_in(read_object(body))


def request_in(document: dict[str, Any]) -> InferenceRequest:
    """Raises ValidationFailed with pointers to the faults."""
    try:
        return InferenceRequest.model_validate(document)
    except ValidationError as error:
        raise invalid(error) from error


def _described(entry: Entry) -> dict[str, Any]:
    card = entry.card
    return {
        "model_id": card.name,
        "task": card.task,
        "version": card.version,
        "versions": entry.versions,
        "description": card.description,
        "accepts": card.accepts.value,
        "config": sorted(known_params(card)),
        "ready_workers": entry.ready_workers,
    }


def _json(content: dict[str, Any], *, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), 200, headers or {"cache-control": "no-store"}, "application/json")


router = with_the_rest(_known, ShortRoute, PREFIX)
#: Behind these paths there are others that are not of this form, such as /models/upload.
router.include_router(_models)
router.include_router(_open)
