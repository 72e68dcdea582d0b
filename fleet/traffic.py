"""What the leading front door sees of the queues once a second, in one row that every process of the fleet may read.

It is written by `api/dispatcher.py`. Front doors go by it when they route and forecast, CPU workers when they help out.
"""

from datetime import datetime

from psycopg.types.json import Jsonb
from pydantic import Field, ValidationError

from fleet.contracts import Lane
from fleet.database import Database
from fleet.queues import ALL_QUEUES
from fleet.routing import Help, Load
from fleet.sql import statements
from fleet.values import Recorded

_SQL = statements("traffic")


class QueueTraffic(Recorded):
    """One queue in which anything waits, or from which CPU workers take for the GPUs."""

    #: Jobs with a message in the broker; jobs that wait in the record for their tenant's turn.
    published: int = 0
    held: int = 0
    #: Of the job that has waited longest, in seconds.
    oldest_s: float = 0.0
    #: Mean seconds that one of its jobs takes on either kind of device.
    gpu_s: float = 0.0
    cpu_s: float = 0.0
    #: Messages that a tenant of weight 1 may have in it.
    window: int = 0
    #: Jobs in it that were asked for with a lower priority.
    aged: int = 0
    #: Seconds that a job waits that comes now; null while nobody serves it.
    wait_s: float | None = None
    #: CPU workers that take from it for the GPUs, why, and since when (seconds since 1970).
    helpers: list[str] = Field(default_factory=list)
    help_why: str = ""
    help_changed_at: float = 0.0

    @property
    def jobs(self) -> int:
        return self.published + self.held

    @property
    def load(self) -> Load:
        return Load(self.jobs, self.gpu_s, self.cpu_s, self.oldest_s)

    @property
    def help(self) -> Help | None:
        return Help(tuple(self.helpers), self.help_why, self.help_changed_at) if self.helpers else None


class Traffic(Recorded):
    at: datetime = Field(description="of the database's clock")
    #: When what waits was counted, by the leader's clock: a deep backlog is counted seldom.
    counted_at: datetime | None = None
    #: By queue; one that is missing is empty.
    queues: dict[str, QueueTraffic] = Field(default_factory=dict)
    #: lane -> tenant -> jobs that wait.
    tenants: dict[Lane, dict[str, int]] = Field(default_factory=dict)

    @property
    def loads(self) -> dict[str, Load]:
        return {name: queue.load for name, queue in self.queues.items() if queue.jobs}

    @property
    def help(self) -> dict[str, Help]:
        return {name: queue.help for name, queue in self.queues.items() if queue.help is not None}

    def waiting(self, lane: Lane, tenant: str | None = None) -> int:
        """Jobs that wait in the lane, of that tenant or of all."""
        tenants = self.tenants.get(lane, {})
        return sum(tenants.values()) if tenant is None else tenants.get(tenant, 0)


class TrafficBoard:
    """Reads and writes the row. Stateless besides the database; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> tuple[Traffic, float] | None:
        """What was seen last and how many seconds ago; None before anybody looked.

        While a newer version leads, without what only it knows of; None where nothing of it can be read.
        """
        row = self._database.one(_SQL["read_traffic"])
        if row is None:
            return None
        try:
            seen = Traffic.model_validate(row["seen"] | {"at": row["at"]})
        except ValidationError:
            return None
        known = {name: queue for name, queue in seen.queues.items() if name in ALL_QUEUES}
        return seen.model_copy(update={"queues": known}), float(row["age_s"])

    def asked_of(self, worker: str) -> tuple[dict[str, str], float] | None:
        """The queues of the GPUs that this worker is to take from, each with the reason, and how many seconds ago that
        was decided; None before anybody looked.
        """
        row = self._database.one(_SQL["read_asked"], {"worker": worker})
        return (row["asked"], float(row["age_s"])) if row is not None else None

    def write(self, seen: Traffic) -> None:
        """`at` is set by the database."""
        self._database.run(_SQL["write_traffic"], {"seen": Jsonb(seen.model_dump(mode="json", exclude={"at"}))})
