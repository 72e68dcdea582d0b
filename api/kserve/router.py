"""/v2: the Open Inference Protocol and Triton's extensions of it, one more dialect of the durable job."""

from importlib.metadata import version as distribution_version
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from api.kserve import metadata, repository
from api.kserve.errors import refusal
from api.kserve.route import PREFIX, kserve_router, with_the_rest
from api.kserve.serving import Serving
from api.kserve.statistics import model_stats
from api.services import Core, Tenant

_known = kserve_router()
_MODEL = f"{PREFIX}/models/{{model}}"
_VERSION = f"{_MODEL}/versions/{{version}}"


async def _serving(core: Core) -> Serving:
    return core.serving


Served = Annotated[Serving, Depends(_serving)]


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), 200, media_type="application/json")


@_known.get(f"{PREFIX}/health/live")
async def live() -> Response:
    return _json({"live": True})


@_known.get(f"{PREFIX}/health/ready")
async def ready(core: Core) -> Response:
    """200 when requests can be accepted."""
    health = await core.readiness.health()
    if health["status"] == "fail":
        failing = ", ".join(name for name, checks in health["checks"].items() if checks[0]["status"] == "fail")
        return refusal(503, f"not ready: {failing}")
    # KServe's text has `live` here and its schema `ready`.
    return _json({"live": True, "ready": True})


@_known.get(PREFIX)
async def server() -> Response:
    return _json(
        {"name": "fleet", "version": distribution_version("onnx-fleet"), "extensions": list(metadata.EXTENSIONS)}
    )


@_known.get(f"{PREFIX}/models/stats")
def all_stats(serving: Served) -> Response:
    return _json(model_stats(serving, serving.every_card()))


@_known.get(f"{_MODEL}/stats")
@_known.get(f"{_VERSION}/stats")
def stats(model: str, serving: Served, version: str | None = None) -> Response:
    return _json(model_stats(serving, serving.versions(model, version)))


@_known.get(f"{_MODEL}/config")
@_known.get(f"{_VERSION}/config")
def config(model: str, serving: Served, version: str | None = None) -> Response:
    card = serving.known(model, version)
    return _json(metadata.model_config(card, serving.config_of(card)))


@_known.get(f"{_MODEL}/ready")
@_known.get(f"{_VERSION}/ready")
def model_ready(model: str, serving: Served, version: str | None = None) -> Response:
    card = serving.known(model, version)
    standing = serving.standing(card)
    if standing.state == "READY":
        return _json({"name": card.name, "ready": True})
    return refusal(400, f"version {card.version} of {card.name!r} is {standing.state}: {standing.reason}")


@_known.get(_MODEL)
@_known.get(_VERSION)
def model_metadata(model: str, serving: Served, version: str | None = None) -> Response:
    card = serving.known(model, version)
    return _json(metadata.model_metadata(card, [each.version for each in serving.versions(card.name, None)]))


@_known.post(f"{_MODEL}/infer")
@_known.post(f"{_VERSION}/infer")
async def infer(model: str, request: Request, core: Core, tenant: Tenant, version: str | None = None) -> Response:
    return await core.inference.infer(request, tenant, model, version)


@_known.post(f"{PREFIX}/repository/index")
async def index(request: Request, serving: Served) -> Response:
    only_ready = await repository.index_filter(request)
    return _json(await run_in_threadpool(repository.index, serving, only_ready))


@_known.post(f"{PREFIX}/repository/models/{{model}}/load")
async def load(model: str, request: Request, core: Core) -> Response:
    """When a worker has it, empty; else 503 with the reasons of those that have not."""
    return await repository.load(request, core.serving, model, core.settings.max_wait_s)


@_known.post(f"{PREFIX}/repository/models/{{model}}/unload")
async def unload(model: str, request: Request, core: Core) -> Response:
    return await repository.unload(request, core.serving, model, core.settings.max_wait_s)


router = with_the_rest(_known)
