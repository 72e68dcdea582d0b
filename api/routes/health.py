"""For machines that watch: alive, ready, figures. Without a key, and without a word that a stranger must not read."""

import orjson
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.services import Core

router = APIRouter(tags=["health"])
_HEALTH = "application/health+json"


@router.get("/livez", responses={200: {"content": {_HEALTH: {}}}}, response_class=Response)
async def livez() -> Response:
    """200 while the process turns; asks nobody."""
    return Response(b'{"status":"pass"}', media_type=_HEALTH, headers={"cache-control": "no-store"})


@router.get(
    "/readyz",
    responses={200: {"content": {_HEALTH: {}}}, 503: {"description": "Not ready", "content": {_HEALTH: {}}}},
    response_class=Response,
)
async def readyz(core: Core) -> Response:
    """200 when jobs can be accepted. Redis down alone is `warn`: jobs are accepted, and published later."""
    health = await core.readiness.health()
    return Response(
        orjson.dumps(health),
        503 if health["status"] == "fail" else 200,
        {"cache-control": "no-store"},
        _HEALTH,
    )


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
def metrics(core: Core) -> Response:
    """Figures for Prometheus."""
    return Response(generate_latest(core.measures.registry), media_type=CONTENT_TYPE_LATEST)
