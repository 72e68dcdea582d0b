"""/api/v1/models: what the workers can serve."""

from typing import Annotated

from fastapi import Query, Response

from api.guarded import guarded_router, problems
from api.services import Core
from api.views import API, ModelListView, ModelView, model_view
from fleet.errors import NotFound

router = guarded_router(f"{API}/models", "models")


@router.get("", response_model=ModelListView)
def list_models(core: Core) -> Response:
    """Every model with its highest version."""
    return ModelListView(models=[model_view(entry) for entry in core.catalogue.entries()]).answer()


@router.get("/{name}", response_model=ModelView, responses=problems(404))
def get_model(name: str, core: Core, version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None) -> Response:
    """One model, by default in its highest version."""
    if "\0" in name:
        raise NotFound("a model's name has no NUL character", code="model-not-found")
    return model_view(core.catalogue.get(name, version)).answer()
