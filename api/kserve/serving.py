"""What is served, as Triton's clients ask for it: a version is READY where a live worker can answer for it.

A worker says of a version what became of it (`model_states`) once it was asked to load it, or has; of the others it
only says that it holds them, and loads them with the first job. To a client that is as ready as any.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from api.cards import KEEP_S, Cards
from api.model_loading import Standing as OnWorker
from api.model_loading import standings
from fleet.card import Card
from fleet.catalogue import Catalogue, LiveWorker, ModelState
from fleet.database import Database
from fleet.errors import NoCapableWorker, NotFound
from fleet.model_names import MAX_VERSION
from fleet.model_records import Desired, HousedVersion, ModelRecords
from fleet.usage import Usage, UsageBoard

#: The better one of two workers' words is the fleet's.
_ORDER = ("READY", "LOADING", "UNLOADING", "UNAVAILABLE")


@dataclass(frozen=True)
class Standing:
    """Of a version, over all workers."""

    state: str
    reason: str = ""


@dataclass(frozen=True)
class Wish:
    """To have a version loaded, and what was desired of it before."""

    card: Card
    desired: Desired
    before: Desired | None


@dataclass(frozen=True)
class IndexEntry:
    name: str
    version: int
    standing: Standing


@dataclass(frozen=True)
class _Seen:
    """What was looked up for all requests of a moment."""

    at: float
    workers: list[LiveWorker]
    desires: dict[str, Desired]


class Serving:
    """Thread-safe. What a request for inference asks is kept for a moment, all else is read anew."""

    def __init__(self, database: Database, catalogue: Catalogue, cards: Cards) -> None:
        self.records = ModelRecords(database)
        self._usage = UsageBoard(database)
        self._catalogue = catalogue
        self._cards = cards
        self._seen: _Seen | None = None

    def card(self, model: str, version: str | None) -> Card:
        """Of `name`, `name@alias`; without a version that of `default`, else the highest.

        Raises NotFound, NoCapableWorker `model-unloaded`.
        """
        checked = self._cards.get(model, _number(model, version))
        checked.check_served()
        return _as_loaded(checked.card, self._now().desires.get(_key(checked.card)))

    def known(self, model: str, version: str | None) -> Card:
        """The same for one that may be unloaded, read anew."""
        return self._catalogue.get(model, _number(model, version)).card

    def versions(self, model: str, version: str | None) -> list[Card]:
        """That one, or the one that an alias names, or all of the model. Raises NotFound."""
        card = self.known(model, version)
        return [card] if version is not None or "@" in model else self._catalogue.cards(card.name)

    def check_available(self, card: Card) -> None:
        """Raises NoCapableWorker when every worker that holds it has failed to load it."""
        standing = standing_of(card, self._now().workers)
        if standing.state == "UNAVAILABLE" and standing.reason:
            raise NoCapableWorker(f"version {card.version} of {card.name!r} is not available: {standing.reason}")

    def standing(self, card: Card) -> Standing:
        return self._with_desires([card])[0].standing

    def index(self) -> list[IndexEntry]:
        """Every version that is served, and every one that is brought in or could not be."""
        entries = self._with_desires(self._catalogue.cards())
        served = {(entry.name, entry.version) for entry in entries}
        housed = [version for version in self.records.versions() if (version.name, version.version) not in served]
        entries += [IndexEntry(each.name, each.version, _brought_in(each)) for each in housed]
        return sorted(entries, key=lambda entry: (entry.name, entry.version))

    def loaded_bytes(self, card: Card) -> int:
        """What it takes in memory, all workers together, as they measured it."""
        states = (worker.word.model_states.get(_key(card)) for worker in self._catalogue.workers())
        return sum(state.memory_bytes or 0 for state in states if state is not None)

    def usage(self, name: str | None = None, version: int | None = None) -> dict[tuple[str, int], Usage]:
        return {(usage.name, usage.version): usage for usage in self._usage.read(name, version)}

    def every_card(self) -> list[Card]:
        return self._catalogue.cards()

    def config_of(self, card: Card) -> Mapping[str, object]:
        """As it was loaded with, else its own."""
        desired = self._desires().get(_key(card))
        return card.config if desired is None or desired.config is None else desired.config

    def load(self, card: Card, config: dict[str, Any] | None) -> Wish:
        before = self._desires().get(_key(card))
        return Wish(card, self.records.desire(card.name, card.version, "loaded", config), before)

    def take_back(self, wish: Wish) -> None:
        """What was desired before, unless somebody else has asked for something meanwhile."""
        self.records.take_back(wish.desired, wish.before)

    def words(self, wish: Wish) -> dict[str, ModelState | None]:
        """Of each worker that can serve it: what it says since it was asked to load it; None: nothing yet."""
        words: dict[str, ModelState | None] = {}
        for at in _holding(wish.card, self._catalogue.workers()):
            heard = at.state is not None and at.state.generation >= wish.desired.generation
            words[at.worker.word.name] = at.state if heard else None
        return words

    def holders(self, key: str) -> list[str]:
        """The workers that have it in memory still."""
        workers = self._catalogue.workers()
        return [worker.word.name for worker in workers if key in worker.word.loaded or _ready(worker, key)]

    def _with_desires(self, cards: Sequence[Card]) -> list[IndexEntry]:
        workers, desires = self._catalogue.workers(), self._desires()
        entries = []
        for card in cards:
            standing = standing_of(card, workers)
            desired = desires.get(_key(card))
            if desired is not None and desired.desire == "unloaded":
                going = any(_ready(worker, _key(card)) for worker in workers)
                standing = Standing("UNLOADING") if going else Standing("UNAVAILABLE", "unloaded")
            entries.append(IndexEntry(card.name, card.version, standing))
        return entries

    def _now(self) -> _Seen:
        seen = self._seen
        if seen is None or time.monotonic() - seen.at > KEEP_S:
            seen = self._seen = _Seen(time.monotonic(), self._catalogue.workers(), self._desires())
        return seen

    def _desires(self) -> dict[str, Desired]:
        return {desired.key: desired for desired in self.records.desires()}


def standing_of(card: Card, workers: Sequence[LiveWorker]) -> Standing:
    """The best of what the live workers say; READY for one that is loaded with the first job."""
    states = [at.state for at in _holding(card, workers)]
    words = [Standing("READY") if state is None else Standing(state.state, state.reason) for state in states]
    if not words:
        return Standing("UNAVAILABLE", "no live worker holds it")
    best = min(words, key=lambda word: _ORDER.index(word.state))
    if best.state != "UNAVAILABLE":
        return replace(best, reason="")
    return replace(best, reason="; ".join(sorted({word.reason for word in words if word.reason})) or "not loaded")


def _holding(card: Card, workers: Sequence[LiveWorker]) -> list[OnWorker]:
    """The workers of its lane and device that hold it."""
    return [at for at in standings(card, workers) if _key(card) in at.worker.word.models]


def _as_loaded(card: Card, desired: Desired | None) -> Card:
    """With the batches that a configuration in the place of its own allows."""
    config = desired.config if desired is not None else None
    said = (config or {}).get("max_batch_size")
    if not card.max_batch_size or isinstance(said, bool) or not isinstance(said, int) or said < 1:
        return card
    return card.model_copy(update={"max_batch_size": said})


def _ready(worker: LiveWorker, key: str) -> bool:
    state = worker.word.model_states.get(key)
    return state is not None and state.state in ("READY", "UNLOADING")


def _brought_in(housed: HousedVersion) -> Standing:
    if housed.state == "failed":
        return Standing("UNAVAILABLE", str((housed.error or {}).get("message", "it could not be brought in")))
    if housed.state == "removing":
        return Standing("UNLOADING", "it is being removed")
    return Standing("LOADING", f"it is being brought in: {housed.stage or housed.state}")


def _key(card: Card) -> str:
    return f"{card.name}/{card.version}"


def _number(model: str, version: str | None) -> int | None:
    """Raises NotFound `model-not-found` for what is no version's number."""
    if version is None:
        return None
    if not (version.isascii() and version.isdigit()) or len(version) > 10 or not 1 <= int(version) <= MAX_VERSION:
        raise NotFound(
            f"there is no version {version[:64]!r} of {model[:128]!r}: versions are whole numbers from 1",
            code="model-not-found",
        )
    return int(version)
