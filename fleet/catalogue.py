"""The catalogue: which models exist (cards, written by the workers that hold them) and which workers live."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime

from psycopg.types.json import Jsonb

from fleet.card import Card
from fleet.contracts import Lane, Pool
from fleet.cost import CPU_KIND
from fleet.database import Database, Row
from fleet.errors import NotFound
from fleet.routing import Member
from fleet.sql import statements

_SQL = statements("catalogue")
#: A worker that was not seen for so long is not counted on; it writes its row every third of that.
ALIVE_S = 15.0


@dataclass(frozen=True)
class Entry:
    """A card as the catalogue shows it."""

    card: Card
    versions: list[int]
    ready_workers: int


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

    def get(self, name: str, version: int | None = None) -> Entry:
        """The card of that version, by default the highest. Raises NotFound `model-not-found`."""
        row = self._database.one(_SQL["get_card"], {"name": name, "version": version, "alive_s": ALIVE_S})
        if row is None:
            what = f"model {name!r}" + (f" in version {version}" if version is not None else "")
            known = ", ".join(sorted(entry.card.name for entry in self.entries())) or "none yet: is a worker running?"
            raise NotFound(f"there is no {what}; known models: {known}", code="model-not-found", model=name)
        return _entry(row)

    def entries(self) -> list[Entry]:
        return [_entry(row) for row in self._database.run(_SQL["list_cards"], {"alive_s": ALIVE_S})]

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
        self._database.run(_SQL["announce_worker"], values)

    def withdraw_worker(self, name: str, pid: int) -> None:
        self._database.run(_SQL["withdraw_worker"], {"name": name, "pid": pid})

    def workers(self) -> list[LiveWorker]:
        return [_worker(row) for row in self._database.run(_SQL["alive_workers"], {"alive_s": ALIVE_S})]

    def forget_dead_workers(self, dead_s: float) -> list[str]:
        return [row["name"] for row in self._database.run(_SQL["forget_dead_workers"], {"dead_s": dead_s})]


def _entry(row: Row) -> Entry:
    return Entry(Card.model_validate(row["card"]), list(row["versions"]), row["ready_workers"])


def _worker(row: Row) -> LiveWorker:
    values = {field.name: row[field.name] for field in fields(WorkerRow)}
    values |= {"pool": Pool(row["pool"]), "lanes": [Lane(lane) for lane in row["lanes"]]}
    return LiveWorker(WorkerRow(**values), row["started_at"], row["seen_at"])
