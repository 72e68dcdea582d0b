"""/api/v1/models: what the fleet can run, its versions, where they are loaded, and how they do."""

from typing import Annotated

from fastapi import Query, Response

from api.guarded import guarded_router, problems
from api.model_metrics_views import MetricsView
from api.model_views import (
    ModelListView,
    ModelStatusView,
    ModelView,
    VersionListView,
    VersionView,
    model_view,
)
from api.services import Core
from api.views import API
from fleet.model_names import MAX_VERSION

router = guarded_router(f"{API}/models", "models")
VersionQuery = Annotated[int | None, Query(ge=1, le=MAX_VERSION)]
_FRESH = {"cache-control": "no-store"}


@router.get("", response_model=ModelListView)
def list_models(core: Core) -> Response:
    """Every model with its default version; and the versions that cannot be served: on their way in, or failed."""
    return core.models.overview.listed().answer()


@router.get("/{name}", response_model=ModelView, responses=problems(404))
def get_model(name: str, core: Core, version: VersionQuery = None) -> Response:
    """One model (`name` or `name@alias`), by default in its default version."""
    return model_view(core.catalogue.get(name, version)).answer()


@router.get("/{name}/versions", response_model=VersionListView, responses=problems(404))
def list_versions(name: str, core: Core) -> Response:
    """All its versions, whatever their state is."""
    return core.models.overview.versions(name).answer(headers=_FRESH)


@router.get("/{name}/versions/{version}", response_model=VersionView, responses=problems(404))
def get_version(name: str, version: str, core: Core) -> Response:
    """One version, by its number or an alias: where it comes from, and how far its import is."""
    overview = core.models.overview
    return overview.version(name, overview.number(name, version)).answer(headers=_FRESH)


@router.get("/{name}/status", response_model=ModelStatusView, responses=problems(404))
def get_status(name: str, core: Core) -> Response:
    """Of every version: its state, what workers are asked to do with it, and what each has made of that."""
    return core.models.overview.status(name).answer(headers=_FRESH)


@router.get("/{name}/metrics", response_model=MetricsView, responses=problems(404))
def get_metrics(
    name: str,
    core: Core,
    version: VersionQuery = None,
    window_s: Annotated[float, Query(gt=0, le=31 * 86400, description="seconds back from now")] = 3600.0,
) -> Response:
    """Rate, times, errors and batches of the jobs that ended lately; and what was run since ever."""
    return core.models.overview.metrics(name, version, window_s).answer(headers=_FRESH)
