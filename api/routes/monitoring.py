"""/api/v1/monitoring: the fleet and its queues at this moment."""

from typing import Annotated

from fastapi import Query, Response

from api.fleet_views import FleetView, QueuesView
from api.guarded import guarded_router, problems
from api.model_metrics_views import HealthView
from api.services import Core, Tenant
from api.views import API
from fleet.model_names import MAX_VERSION

router = guarded_router(f"{API}/monitoring", "monitoring")


@router.get("/fleet", response_model=FleetView)
def get_fleet(core: Core, tenant: Tenant) -> Response:
    """The workers that live, and what they run. Of jobs of other tenants the id is not shown."""
    return core.overview.fleet(tenant).answer(headers={"cache-control": "no-store"})


@router.get("/queues", response_model=QueuesView)
def get_queues(
    core: Core,
    tenant: Tenant,
    all_queues: Annotated[bool, Query(alias="all", description="those too in which nothing waits")] = False,
) -> Response:
    """The queues with what waits in them, the expected wait, and who helps out; and what may wait in each lane."""
    return core.overview.queues(tenant, empty_too=all_queues).answer(headers={"cache-control": "no-store"})


@router.get("/models/{name}/health", response_model=HealthView, responses=problems(404))
def get_model_health(
    name: str, core: Core, version: Annotated[int | None, Query(ge=1, le=MAX_VERSION)] = None
) -> Response:
    """Whether a model (`name` or `name@alias`) can be used now, and why not, by default in its default version."""
    return core.models.overview.health(name, version).answer(headers={"cache-control": "no-store"})
