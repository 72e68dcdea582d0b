"""What workers are asked to do with a version, and waiting until they have done it: load, unload, deploy.

Asked is by the record (`ModelRecords.desire`); workers answer with their rows, which say what they made of it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from fleet.card import Card
from fleet.catalogue import Catalogue, LiveWorker, ModelState
from fleet.contracts import DevicePolicy, Pool
from fleet.errors import Conflict, NoCapableWorker
from fleet.model_records import Desired, ModelRecords

#: Seconds between two looks at the workers' rows.
_LOOK_S = 0.25
_ONLY = {DevicePolicy.GPU_ONLY: Pool.GPU, DevicePolicy.CPU_ONLY: Pool.CPU}
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Standing:
    """A version on a worker that could serve it; without a state it was never loaded there."""

    worker: LiveWorker
    state: ModelState | None

    @property
    def ready(self) -> bool:
        return self.state is not None and self.state.state == "READY"

    def stays(self, evicted: Desired) -> bool:
        """Whether the worker has still to do what was desired."""
        if self.state is None or self.state.state == "UNAVAILABLE":
            return False
        return self.state.state == "UNLOADING" or self.state.generation < evicted.generation


class ModelLoading:
    """Thread-safe."""

    def __init__(self, records: ModelRecords, catalogue: Catalogue) -> None:
        self._records = records
        self._catalogue = catalogue

    def standings(self, card: Card) -> list[Standing]:
        """Of all workers that live and could serve it."""
        return standings(card, self._catalogue.workers())

    async def load(self, card: Card, wait_s: float, config: dict[str, Any] | None = None) -> list[Standing]:
        """Loaded, and kept so; said of one that is loaded it is loaded anew. With `wait_s` by one worker at least.

        Raises NoCapableWorker `no-capable-worker` or `model-not-ready`, Conflict `model-refused`.
        """
        desired = await run_in_threadpool(self._records.desire, card.name, card.version, "loaded", config)
        if not wait_s:
            return await run_in_threadpool(self.standings, card)
        return await self._loaded(card, desired, wait_s)

    async def unload(self, card: Card, wait_s: float) -> list[Standing]:
        """Not served until it is loaded again: what runs may end. With `wait_s` by all workers.

        Raises NoCapableWorker `model-not-ready` when it is still loaded somewhere after that.
        """
        await run_in_threadpool(self._records.desire, card.name, card.version, "unloaded")

        def gone(found: list[Standing]) -> list[Standing] | None:
            return None if any(at.state is not None and at.state.state != "UNAVAILABLE" for at in found) else found

        done, last = await self._until(card, gone, wait_s)
        if done is None and wait_s:
            raise _not_ready(f"{_name(card)} is still loaded after {wait_s:g} s: its runs have not ended", last)
        return last

    async def evict(self, card: Card, wait_s: float) -> list[Standing]:
        """Out of the memory of all workers, and no longer kept there. It is served on: the next job loads it again.

        Raises NoCapableWorker `model-not-ready` when it has not gone somewhere after `wait_s`.
        """
        desired = await run_in_threadpool(self._records.desire, card.name, card.version, "evicted")

        def gone(found: list[Standing]) -> list[Standing] | None:
            return None if any(at.stays(desired) for at in found) else found

        try:
            done, last = await self._until(card, gone, wait_s)
        finally:
            # Without this, what is left is a word that each worker has heard or will hear once.
            await asyncio.shield(run_in_threadpool(self._records.take_back, desired, None))
        if done is None:
            raise _not_ready(f"{_name(card)} has not gone after {wait_s:g} s: its runs have not ended", last)
        return last

    async def deploy(self, card: Card, alias: str, wait_s: float) -> list[Standing]:
        """Points the alias to the version, once a worker has it loaded. Else nothing is changed.

        Raises NoCapableWorker `no-capable-worker` or `model-not-ready`, Conflict `model-refused`.
        """
        found = await run_in_threadpool(self.standings, card)
        before = await run_in_threadpool(self._desired, card)
        if not any(at.ready for at in found) or (before is not None and before.desire == "unloaded"):
            found = await self._proven(card, before, wait_s)
        await run_in_threadpool(self._records.set_alias, card.name, alias, card.version)
        return found

    async def _proven(self, card: Card, before: Desired | None, wait_s: float) -> list[Standing]:
        config = before.config if before is not None and before.desire == "loaded" else None
        desired = await run_in_threadpool(self._records.desire, card.name, card.version, "loaded", config)
        proven = False
        try:
            found = await self._loaded(card, desired, wait_s)
            proven = True
        finally:
            # Also when the caller has gone: what was asked for here is not to outlive it.
            if not proven and before is not None:
                await asyncio.shield(run_in_threadpool(self._records.take_back, desired, before))
            elif before is None or before.desire == "unloaded":
                await asyncio.shield(run_in_threadpool(self._records.take_back, desired, None))
        return found

    async def _loaded(self, card: Card, desired: Desired, wait_s: float) -> list[Standing]:
        def judged(found: list[Standing]) -> list[Standing] | None:
            if not found:
                only = _ONLY.get(card.device)
                kind = f"{only.name} " if only else ""
                raise NoCapableWorker(
                    f"no {kind}worker of the {card.lane.value} lane lives that could load {_name(card)}: start one",
                    **_facts(card),
                )
            heard = [at for at in found if at.state is not None and at.state.generation >= desired.generation]
            if any(at.ready and not _failed(at) for at in heard):
                return found
            if len(heard) == len(found) and all(_failed(at) for at in heard):
                raise Conflict(
                    f"no worker could load {_name(card)}: {_said(found)}",
                    code="model-refused",
                    **_facts(card),
                    workers=_reasons(found),
                )
            return None

        done, last = await self._until(card, judged, wait_s)
        if done is None:
            raise _not_ready(f"no worker has loaded {_name(card)} within {wait_s:g} s: {_said(last)}", last)
        return done

    async def _until(
        self, card: Card, judge: Callable[[list[Standing]], Answer | None], wait_s: float
    ) -> tuple[Answer | None, list[Standing]]:
        """The first judgement, or None after `wait_s`; and what was seen last."""
        give_up = time.monotonic() + wait_s
        while True:
            found = await run_in_threadpool(self.standings, card)
            judgement = judge(found)
            if judgement is not None or time.monotonic() >= give_up:
                return judgement, found
            await asyncio.sleep(_LOOK_S)

    def _desired(self, card: Card) -> Desired | None:
        return next(
            (desired for desired in self._records.desires() if desired.key == f"{card.name}/{card.version}"), None
        )


def standings(card: Card, workers: Sequence[LiveWorker]) -> list[Standing]:
    """Of the workers that could serve it."""
    only = _ONLY.get(card.device)
    key = f"{card.name}/{card.version}"
    return [
        Standing(worker, worker.word.model_states.get(key))
        for worker in workers
        if not worker.word.draining and card.lane in worker.word.lanes and only in (None, worker.word.pool)
    ]


def _failed(at: Standing) -> bool:
    """A reload that failed leaves the old one ready, with the reason beside it."""
    return at.state is not None and (at.state.state == "UNAVAILABLE" or bool(at.ready and at.state.reason))


def _not_ready(message: str, found: Sequence[Standing]) -> NoCapableWorker:
    return NoCapableWorker(message, code="model-not-ready", workers=_reasons(found))


def _reasons(found: Sequence[Standing]) -> Mapping[str, str]:
    return {at.worker.word.name: _reason(at) for at in found}


def _reason(at: Standing) -> str:
    if at.state is None:
        return "not asked for it yet"
    return f"{at.state.state}: {at.state.reason}" if at.state.reason else at.state.state


def _said(found: Sequence[Standing]) -> str:
    return "; ".join(f"{worker}: {reason}" for worker, reason in list(_reasons(found).items())[:3])


def _name(card: Card) -> str:
    return f"version {card.version} of {card.name!r}"


def _facts(card: Card) -> dict[str, Any]:
    return {"model": card.name, "version": card.version}
