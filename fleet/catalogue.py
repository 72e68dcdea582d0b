"""The catalogue: which models exist (cards, written by the workers that hold them) and which workers live."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb

from fleet.card import Card
from fleet.contracts import Lane, Pool
from fleet.cost import CPU_KIND
from fleet.database import Database, Row
from fleet.errors import NotFound, storable
from fleet.model_names import Asked, asked
from fleet.routing import Member
from fleet.sql import statements
from fleet.values import Recorded

_SQL = statements("catalogue")
#: A worker that was not seen for so long is not counted on; it writes its row every third of that.
ALIVE_S = 15.0


@dataclass(frozen=True)
class Entry:
    """A card as the catalogue shows it."""

    card: Card
    versions: list[int]
    ready_workers: int
    aliases: dict[str, int] = field(default_factory=dict)
    #: Nobody is to serve it, until it is loaded again.
    unloaded: bool = False
    #: When a worker, or its import, last said what it is.
    announced_at: datetime | None = None


class ModelState(Recorded):
    """Of a model version on one worker, in Triton's words."""

    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
    #: Why it is unavailable, and the code of the error that says so.
    reason: str = ""
    code: str = ""
    #: The generation of the desire that brought it here; 0: none did.
    generation: int = 0
    memory_bytes: int | None = None
    #: The execution provider that is in use; why it was chosen, where it was measured; what was asked for in its place.
    provider: str = ""
    choice: str = ""
    fallback: str = ""


@dataclass(frozen=True)
class WorkerRow:
    """What a worker says of itself with every heartbeat."""

    name: str
    host: str
    pid: int
    pool: Pool
    lanes: Sequence[Lane]
    device: str
    provider: str
    simulated: bool
    concurrency: int
    #: "name/version" of the models that it can serve, and of those that are loaded.
    models: Sequence[str]
    loaded: Sequence[str]
    running: int
    rss_bytes: int | None
    draining: bool
    #: What service times are learned by: "cpu", or the kind of GPU.
    kind: str = CPU_KIND
    #: Whether it helps out in the queues of the GPUs when it is asked to.
    helps: bool = False
    #: The queues that it takes from now.
    queues: Sequence[str] = field(default_factory=list)
    #: What it may use for its runs, and what they were granted; of a GPU, its memory and what of it is in use.
    memory_usable_bytes: int | None = None
    memory_granted_bytes: int | None = None
    device_memory_bytes: int | None = None
    device_used_bytes: int | None = None
    #: By "name/version": of every model that it was asked to load, has loaded, or failed to load.
    model_states: Mapping[str, ModelState] = field(default_factory=dict)


@dataclass(frozen=True)
class LiveWorker:
    word: WorkerRow
    started_at: datetime
    seen_at: datetime

    def member(self, busy_s: float = 0.0) -> Member:
        """As routing sees it; `busy_s`: expected seconds that are left of what it runs, all jobs together."""
        word = self.word
        return Member(
            name=word.name,
            pool=word.pool,
            lanes=tuple(word.lanes),
            slots=word.concurrency,
            busy_s=busy_s,
            running=word.running,
            helps=word.helps,
            models=frozenset(word.models),
            kind=word.kind,
        )


class Catalogue:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, reference: str, version: int | None = None) -> Entry:
        """The card of `name`, `name@alias` or `name@3`; else of that version; else of `default`, else the highest.

        Raises NotFound `model-not-found`, `alias-not-found`, and `model-importing` or `model-import-failed` for one
        that cannot be served yet.
        """
        wanted = asked(reference, version)
        values = {"name": wanted.name, "version": wanted.version, "alias": wanted.alias}
        row = self._database.one(_SQL["get_card"], values | {"alive_s": ALIVE_S})
        if row is None:
            raise self._missing(wanted)
        return _entry(row)

    def entries(self) -> list[Entry]:
        return [_entry(row) for row in self._database.run(_SQL["list_cards"], {"alive_s": ALIVE_S})]

    def cards(self, name: str | None = None) -> list[Card]:
        """Of every version, of one model or of all."""
        return [Card.model_validate(row["card"]) for row in self._database.run(_SQL["every_card"], {"name": name})]

    def _missing(self, wanted: Asked) -> NotFound:
        names = {"model": wanted.name, "version": wanted.version, "alias": wanted.alias}
        facts = {key: value for key, value in names.items() if value is not None}
        known = self._database.run(_SQL["why_missing"], {"name": wanted.name, "version": wanted.version})
        if wanted.alias is not None and any(row["aliases"] or row["served"] for row in known):
            aliases = ", ".join(sorted({alias for row in known for alias in row["aliases"]})) or "none"
            message = f"the model {wanted.name!r} has no alias {wanted.alias!r}; it has: {aliases}"
            return NotFound(message, code="alias-not-found", **facts)
        housed = next((row for row in known if row["state"] is not None), None)
        if housed is not None and wanted.alias is None:
            return _not_yet(wanted.name, housed, facts)
        what = f"model {wanted.name!r}" + (f" in version {wanted.version}" if wanted.version is not None else "")
        names_known = ", ".join(sorted(entry.card.name for entry in self.entries()))
        hint = names_known or "none yet: is a worker running?"
        return NotFound(f"there is no {what}; known models: {hint}", code="model-not-found", **facts)

    def announce_cards(self, cards: Sequence[Card], worker: str) -> None:
        for card in cards:
            self._database.run(
                _SQL["announce_card"],
                {
                    "name": card.name,
                    "version": card.version,
                    "card": Jsonb(card.model_dump(mode="json")),
                    "sha256": card.sha256,
                    "worker": worker,
                },
            )

    def announce_worker(self, word: WorkerRow) -> None:
        values = asdict(word)
        values["lanes"] = [lane.value for lane in word.lanes]
        values["pool"] = word.pool.value
        values |= {name: list(values[name]) for name in ("models", "loaded", "queues")}
        states = {key: state.model_dump(mode="json") for key, state in word.model_states.items()}
        values["model_states"] = Jsonb(storable(states))
        self._database.run(_SQL["announce_worker"], values)

    def withdraw_worker(self, name: str, pid: int) -> None:
        self._database.run(_SQL["withdraw_worker"], {"name": name, "pid": pid})

    def workers(self) -> list[LiveWorker]:
        return [_worker(row) for row in self._database.run(_SQL["alive_workers"], {"alive_s": ALIVE_S})]

    def forget_dead_workers(self, dead_s: float) -> list[str]:
        return [row["name"] for row in self._database.run(_SQL["forget_dead_workers"], {"dead_s": dead_s})]


def _entry(row: Row) -> Entry:
    card = Card.model_validate(row["card"])
    return Entry(
        card, list(row["versions"]), row["ready_workers"], row["aliases"] or {}, row["unloaded"], row["announced_at"]
    )


def _not_yet(name: str, housed: Row, facts: dict[str, Any]) -> NotFound:
    """For a version that was asked for and cannot be served, at least not yet."""
    what, state = f"version {housed['version']} of the model {name!r}", housed["state"]
    facts |= {"version": housed["version"], "state": state}
    if state == "failed":
        reason = (housed["error"] or {}).get("message", "its import failed")
        return NotFound(f"{what} could not be brought in: {reason}", code="model-import-failed", **facts)
    if state == "removing":
        return NotFound(f"{what} was removed", code="model-not-found", **facts)
    where = f"importing: {housed['stage']}" if housed["stage"] else state
    return NotFound(f"{what} is {where}; it can be used once it is ready", code="model-importing", **facts)


def _worker(row: Row) -> LiveWorker:
    values = {field.name: row[field.name] for field in fields(WorkerRow)}
    values |= {"pool": Pool(row["pool"]), "lanes": [Lane(lane) for lane in row["lanes"]]}
    values["model_states"] = {key: ModelState.model_validate(state) for key, state in row["model_states"].items()}
    return LiveWorker(WorkerRow(**values), row["started_at"], row["seen_at"])
