"""/embeddings: the same body and answer as OpenAI's, errors in the short form, and the memory behind it."""

from typing import Annotated, Any

import orjson
from fastapi import Depends, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.openai.embedding import embeddings, received
from api.openai.request import invalid, read_object
from api.openai.residency import PreloadRequest, Residency
from api.openai.route import ShortRoute, form_router, with_the_rest
from api.services import Core, Tenant

PREFIX = "/embeddings"
_known = form_router(ShortRoute)


async def _residency(core: Core) -> Residency:
    return Residency(core.models, core.settings.max_wait_s)


Memory = Annotated[Residency, Depends(_residency)]


@_known.post(PREFIX)
async def create_embeddings(request: Request, core: Core, tenant: Tenant) -> Response:
    return await embeddings(request, core, tenant)


@_known.post(f"{PREFIX}/preload")
async def preload(request: Request, memory: Memory) -> Response:
    """When each is in the memory of a worker."""
    try:
        wanted = PreloadRequest.model_validate(read_object(await received(request)))
    except ValidationError as error:
        raise invalid(error) from error
    return _json(await memory.preload(wanted))


@_known.get(f"{PREFIX}/cache/status")
async def cache_status(memory: Memory) -> Response:
    return _json(await run_in_threadpool(memory.status))


@_known.post(f"{PREFIX}/cache/clear")
async def clear_cache(memory: Memory) -> Response:
    return _json(await memory.clear())


@_known.get(f"{PREFIX}/counter/{{model_tag}}")
def count(model_tag: str, memory: Memory) -> Response:
    return _json(memory.counter(model_tag))


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), 200, {"cache-control": "no-store"}, "application/json")


router = with_the_rest(_known, ShortRoute, PREFIX)
