"""What becomes of the versions of a model: deploy, aliases, load and unload, try again, remove.

`{version}` is a number, an alias, or `default`.
"""

from typing import Annotated

from fastapi import Query, Response
from starlette.concurrency import run_in_threadpool

from api.guarded import guarded_router, problems
from api.model_requests import AliasRequest, DeployRequest, LoadRequest
from api.model_views import AliasView, ModelStatusView, VersionView, version_view
from api.services import BaseUrl, Core
from api.views import API, location
from fleet.errors import NotFound
from fleet.model_names import Alias, asked

router = guarded_router(f"{API}/models/{{name}}", "models")
_REFUSALS = problems(400, 404, 409, 415)


@router.post("/versions/{version}/deploy", response_model=ModelStatusView, responses=_REFUSALS)
async def deploy_version(name: str, version: str, core: Core, body: DeployRequest | None = None) -> Response:
    """Points `default` (or another alias) to the version once a worker has it loaded and checked; else changes nothing.

    409 `model-refused` when no worker can load it, 503 `model-not-ready` when none did in `wait_s`.
    """
    wanted, overview = body or DeployRequest(), core.models.overview
    card = await run_in_threadpool(overview.card, name, version)
    await core.models.loading.deploy(card, wanted.alias, wanted.wait_s)
    return (await run_in_threadpool(overview.status, card.name)).answer()


@router.put("/aliases/{alias}", response_model=AliasView, responses=_REFUSALS)
def set_alias(name: str, alias: Alias, body: AliasRequest, core: Core) -> Response:
    """Points an alias to a version, at once and unchecked; `deploy` checks first. Known everywhere within 2 s."""
    card = core.catalogue.get(asked(name).name, body.version).card
    core.models.records.set_alias(card.name, alias, card.version)
    return AliasView(name=card.name, alias=alias, version=card.version).answer()


@router.delete("/aliases/{alias}", status_code=204, response_class=Response, responses=problems(404))
def drop_alias(name: str, alias: Alias, core: Core) -> Response:
    """Without `default` a request without a version gets the highest."""
    core.models.records.drop_alias(asked(name).name, alias)
    return Response(status_code=204)


@router.post("/versions/{version}/load", response_model=ModelStatusView, responses=_REFUSALS)
async def load_version(name: str, version: str, core: Core, body: LoadRequest | None = None) -> Response:
    """Loaded, and kept loaded, by every worker that can; also ends an `unload`. With `wait_s` by one at least."""
    card = await run_in_threadpool(core.models.overview.card, name, version)
    await core.models.loading.load(card, (body or LoadRequest()).wait_s)
    return (await run_in_threadpool(core.models.overview.status, card.name)).answer()


@router.post("/versions/{version}/reload", response_model=ModelStatusView, responses=_REFUSALS)
async def reload_version(name: str, version: str, core: Core, body: LoadRequest | None = None) -> Response:
    """Loaded anew beside the old one, which serves until then, and goes on serving where the new one fails."""
    return await load_version(name, version, core, body)


@router.post("/versions/{version}/unload", response_model=ModelStatusView, responses=_REFUSALS)
async def unload_version(name: str, version: str, core: Core, body: LoadRequest | None = None) -> Response:
    """Taken out of service: new jobs are refused, those that wait or run still end. With `wait_s` by all workers."""
    card = await run_in_threadpool(core.models.overview.card, name, version)
    await core.models.loading.unload(card, (body or LoadRequest()).wait_s)
    return (await run_in_threadpool(core.models.overview.status, card.name)).answer()


@router.post("/versions/{version}/retry", status_code=202, response_model=VersionView, responses=problems(404, 409))
def retry_import(name: str, version: str, core: Core, base_url: BaseUrl) -> Response:
    """Tries an import again that failed."""
    number = _brought_in(core, name, version)
    housed = core.models.records.retry_import(name, number)
    where = location(base_url, f"models/{housed.name}/versions/{housed.version}")
    return version_view(housed, {}).answer(202, {"location": where})


@router.delete("/versions/{version}", status_code=204, response_class=Response, responses=problems(404, 409))
def remove_version(
    name: str,
    version: str,
    core: Core,
    force: Annotated[bool, Query(description="also one that an alias, or `default`, points to")] = False,
) -> Response:
    """Takes a version out that was brought in, with its files. Jobs that run on it may end."""
    core.models.remove(asked(name).name, core.models.overview.number(name, version), force=force)
    return Response(status_code=204)


def _brought_in(core: Core, name: str, version: str) -> int:
    """Raises NotFound `model-not-found`."""
    asked(name)
    if not version.isascii() or not version.isdecimal():
        raise NotFound(f"{version[:64]!r} is not the number of a version", code="model-not-found", model=name)
    return core.models.overview.number(name, version)
