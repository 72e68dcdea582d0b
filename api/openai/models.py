"""GET /v1/models: the models that make embeddings, as OpenAI lists its own."""

from typing import Any

from fleet.catalogue import Catalogue, Entry
from fleet.embeddings import TASK_NAME
from fleet.errors import NotFound
from fleet.model_records import DEFAULT_ALIAS


def listed(catalogue: Catalogue) -> dict[str, Any]:
    """Those in service, each under its name and its aliases."""
    entries = [entry for entry in catalogue.entries() if entry.card.task == TASK_NAME and not entry.unloaded]
    return {"object": "list", "data": [_described(name, entry) for entry in entries for name in _names(entry)]}


def one(catalogue: Catalogue, reference: str) -> dict[str, Any]:
    """Of `name`, `name@alias` or `name@3`. Raises NotFound."""
    entry = catalogue.get(reference)
    if entry.card.task != TASK_NAME:
        raise NotFound(
            f"the model {entry.card.name!r} does {entry.card.task!r}, and no embeddings of texts",
            code="model-not-found",
            model=entry.card.name,
        )
    return _described(reference, entry)


def _names(entry: Entry) -> list[str]:
    name = entry.card.name
    return [name, *(f"{name}@{alias}" for alias in sorted(entry.aliases) if alias != DEFAULT_ALIAS)]


def _described(name: str, entry: Entry) -> dict[str, Any]:
    created = int(entry.announced_at.timestamp()) if entry.announced_at is not None else 0
    return {"id": name, "object": "model", "created": created, "owned_by": "fleet"}
