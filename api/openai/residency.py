"""Which models of embeddings lie in the workers' memory: bring them there, look, and send them away."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool

from api.model_house import ModelHouse
from api.model_loading import Standing, standings
from api.openai.refusal import MEMORY_CODES
from fleet.card import Card
from fleet.embeddings import TASK_NAME
from fleet.errors import FleetError, ModelError, ValidationFailed
from fleet.model_names import asked
from fleet.values import Frozen

_IN_MEMORY = ("READY", "UNLOADING")


class PreloadRequest(Frozen):
    models: list[str] = Field(default_factory=list, max_length=1000)
    max_models: int | None = Field(default=None, ge=1, le=1000)


@dataclass(frozen=True)
class Residency:
    house: ModelHouse
    max_wait_s: float

    async def preload(self, wanted: PreloadRequest) -> dict[str, Any]:
        """Loaded by one worker at least, and kept. Without names: those that were used most, of all.

        Raises NotFound and ValidationFailed before anything is loaded; ModelError `memory-error`, Conflict and
        NoCapableWorker when one could not be, which leaves the others loaded.
        """
        cards = await run_in_threadpool(self._chosen, wanted)
        outcomes = await asyncio.gather(*(self._load(card) for card in cards), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        found = await run_in_threadpool(self.status)
        keys = {f"{card.name}/{card.version}" for card in cards}
        models = [model for model in found["models"] if f"{model['model']}/{model['version']}" in keys]
        return {"models": models, "count": len(models)}

    def status(self) -> dict[str, Any]:
        """Every version that a worker has in memory, or was asked to have."""
        workers = self.house.catalogue.workers()
        desires = {desired.key: desired.desire for desired in self.house.records.desires()}
        models = []
        for card in self._cards():
            found = [at for at in standings(card, workers) if at.state is not None]
            if found:
                kept = desires.get(f"{card.name}/{card.version}") == "loaded"
                models.append(_described(card, found, kept=kept))
        loaded = [model for model in models if model["loaded"]]
        return {
            "models": models,
            "count": len(loaded),
            "memory_bytes": sum(model["memory_bytes"] for model in loaded),
        }

    async def clear(self) -> dict[str, Any]:
        """Out of the memory of all workers; the next request loads what it needs again.

        What was taken out of service stays so.

        Raises NoCapableWorker `model-not-ready` when a run keeps one longer than a request may wait.
        """
        cards = await run_in_threadpool(self._in_memory)
        await asyncio.gather(*(self.house.loading.evict(card, self.max_wait_s) for card in cards))
        cleared = [{"model": card.name, "version": card.version} for card in cards]
        return {"cleared": cleared, "count": len(cleared)}

    def counter(self, tag: str) -> dict[str, Any]:
        """What was run since ever: of one version where the tag names one (`name@3`, `name@alias`), else of all.

        Raises NotFound.
        """
        wanted = asked(tag)
        entry = self.house.catalogue.get(tag)
        version = entry.card.version if (wanted.version, wanted.alias) != (None, None) else None
        found = self.house.usage.read(entry.card.name, version)
        last = max((usage.last_at for usage in found if usage.last_at is not None), default=None)
        return {
            "model": entry.card.name,
            "version": version,
            "count": sum(usage.items for usage in found),
            "jobs": sum(usage.success for usage in found),
            "failed": sum(usage.failure for usage in found),
            "runs": sum(usage.runs for usage in found),
            "last_at": last.isoformat() if last is not None else None,
        }

    def _cards(self) -> list[Card]:
        return [card for card in self.house.catalogue.cards() if card.task == TASK_NAME]

    def _chosen(self, wanted: PreloadRequest) -> list[Card]:
        if wanted.models:
            cards = [self._embedder(name, f"#/models/{n}") for n, name in enumerate(wanted.models)]
            return list({(card.name, card.version): card for card in cards}.values())[: wanted.max_models]
        entries = [entry for entry in self.house.catalogue.entries() if entry.card.task == TASK_NAME]
        used = {(usage.name, usage.version): usage.success for usage in self.house.usage.read()}
        cards = [entry.card for entry in entries if not entry.unloaded]
        return sorted(cards, key=lambda card: -used.get((card.name, card.version), 0))[: wanted.max_models]

    def _embedder(self, name: str, where: str) -> Card:
        card = self.house.catalogue.get(name).card
        if card.task != TASK_NAME:
            message = f"the model {card.name!r} does {card.task!r}, and no embeddings of texts"
            raise ValidationFailed(message, [{"detail": message, "pointer": where}], code="task-mismatch")
        return card

    async def _load(self, card: Card) -> None:
        try:
            await self.house.loading.load(card, self.max_wait_s)
        except FleetError as error:
            found = await run_in_threadpool(self.house.loading.standings, card)
            if any(at.state is not None and at.state.code in MEMORY_CODES for at in found):
                raise ModelError(error.message, code="memory-error", **error.facts) from error
            raise

    def _in_memory(self) -> list[Card]:
        workers = self.house.catalogue.workers()
        away = {desired.key for desired in self.house.records.desires() if desired.desire == "unloaded"}
        return [
            card
            for card in self._cards()
            if f"{card.name}/{card.version}" not in away and any(map(_loaded, standings(card, workers)))
        ]


def _loaded(at: Standing) -> bool:
    return at.state is not None and at.state.state in _IN_MEMORY


def _described(card: Card, found: Sequence[Standing], *, kept: bool) -> dict[str, Any]:
    workers = [
        {
            "worker": at.worker.word.name,
            "state": at.state.state,
            "reason": at.state.reason,
            "memory_bytes": at.state.memory_bytes,
            "provider": at.state.provider,
        }
        for at in found
        if at.state is not None
    ]
    return {
        "model": card.name,
        "version": card.version,
        "loaded": any(map(_loaded, found)),
        "preloaded": kept,
        "memory_bytes": sum(worker["memory_bytes"] or 0 for worker in workers),
        "workers": workers,
    }
