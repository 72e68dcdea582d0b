"""What the server says of the fleet as a whole: workers, what runs, what waits."""

from datetime import datetime

from pydantic import Field

from fleet_client.records import Record


class Helping(Record):
    """A queue of the GPUs from which a CPU worker was asked to take, and why; `joined` once it does."""

    queue: str
    why: str = ""
    joined: bool = False


class WorkerStatus(Record):
    """A worker process that lives. Memory is in bytes, and None where it is not known.

    `simulated`: a CPU that plays a GPU. `slots`: jobs that it runs at once. `loaded`: name/version in memory.
    """

    name: str
    host: str = ""
    pid: int | None = None
    pool: str = ""
    lanes: list[str] = Field(default_factory=list)
    device: str = ""
    kind: str = ""
    provider: str = ""
    simulated: bool = False
    slots: int = 0
    running: int = 0
    models: int = Field(default=0, description="that it can serve")
    loaded: list[str] = Field(default_factory=list)
    rss_bytes: int | None = None
    memory_usable_bytes: int | None = None
    memory_granted_bytes: int | None = None
    device_memory_bytes: int | None = None
    device_used_bytes: int | None = None
    draining: bool = False
    helps: bool = False
    queues: list[str] = Field(default_factory=list)
    helping: list[Helping] = Field(default_factory=list)
    started_at: datetime | None = None
    seen_at: datetime | None = None


class RunningStatus(Record):
    """A job that runs now; `id` is None unless it is yours. `seconds` since its attempt began."""

    id: str | None = None
    model: str = ""
    version: int | None = None
    stage: str | None = None
    progress: float = 0.0
    priority: str = ""
    lane: str = ""
    queue: str = ""
    worker: str = ""
    seconds: float = 0.0


class PoolStatus(Record):
    pool: str
    workers: int = 0
    draining: int = 0
    simulated: int = 0
    slots: int = 0
    running: int = 0


class FleetStatus(Record):
    """The workers and what they run. What a server that is away would have told is None, and it is in `unavailable`."""

    at: datetime | None = None
    workers: list[WorkerStatus] | None = None
    running: list[RunningStatus] | None = None
    running_left_out: int = 0
    pools: list[PoolStatus] | None = None
    traffic_age_s: float | None = None
    unavailable: list[str] = Field(default_factory=list)


class QueueStatus(Record):
    """A queue: `published` jobs have a message, `held` ones wait for their tenant's turn. Times are in seconds.

    `wait_s` is the expected wait of a job that comes now; None while nobody serves the queue. `helpers` are CPU workers
    that were asked to take from it for the GPUs.
    """

    name: str
    kind: str = ""
    lane: str = ""
    priority: str = ""
    messages: int | None = None
    published: int | None = None
    held: int | None = None
    aged: int | None = None
    oldest_s: float | None = None
    gpu_s: float | None = None
    cpu_s: float | None = None
    wait_s: float | None = None
    workers: int | None = None
    helpers: list[str] | None = None
    help_why: str | None = None


class LaneStatus(Record):
    """What waits in a lane, in all and of yours, and what may."""

    lane: str
    waiting: int | None = None
    limit: int | None = None
    yours: int | None = None
    your_limit: int | None = None


class QueuesStatus(Record):
    """The queues. What a server that is away would have told is None, and it is in `unavailable`."""

    at: datetime | None = None
    queues: list[QueueStatus] = Field(default_factory=list)
    lanes: list[LaneStatus] = Field(default_factory=list)
    traffic_age_s: float | None = None
    unavailable: list[str] = Field(default_factory=list)
