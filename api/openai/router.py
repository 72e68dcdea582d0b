"""/v1: OpenAI's embeddings and models, and what else is under that prefix."""

from typing import Any

import orjson
from fastapi import Request, Response

from api.openai import models
from api.openai.embedding import embeddings
from api.openai.route import OpenAIRoute, form_router, with_the_rest
from api.services import Core, Tenant

PREFIX = "/v1"
_known = form_router(OpenAIRoute)


@_known.post(f"{PREFIX}/embeddings")
async def create_embeddings(request: Request, core: Core, tenant: Tenant) -> Response:
    return await embeddings(request, core, tenant)


@_known.get(f"{PREFIX}/models")
def list_models(core: Core) -> Response:
    return _json(models.listed(core.catalogue))


@_known.get(f"{PREFIX}/models/{{model:path}}")
def retrieve_model(model: str, core: Core) -> Response:
    return _json(models.one(core.catalogue, model))


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), 200, media_type="application/json")


router = with_the_rest(_known, OpenAIRoute, PREFIX)
