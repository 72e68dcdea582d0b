"""What callers get to see of the fleet and its queues, as types. See docs/reference/http.md."""

from uuid import UUID

from pydantic import Field

from api.views import Moment, View
from fleet.contracts import Lane, Pool, PriorityName
from fleet.queues import QueueKind

_MISSING = "servers that did not answer (`postgresql`, `redis`): their figures are null"


class HelpingView(View):
    """A queue of the GPUs from which a CPU worker was asked to take."""

    queue: str
    why: str
    joined: bool = Field(description="whether it does by now")


class WorkerView(View):
    name: str
    host: str
    pid: int
    pool: Pool
    lanes: list[Lane]
    device: str
    kind: str = Field(description="of device, by which service times are learned")
    provider: str = Field(description="the execution provider that is really in use")
    simulated: bool = Field(description="a CPU that plays a GPU")
    slots: int = Field(description="jobs that it runs at once")
    running: int
    models: int = Field(description="that it can serve")
    loaded: list[str] = Field(description="models in memory, as name/version")
    rss_bytes: int | None = Field(description="of the process")
    memory_usable_bytes: int | None = Field(description="what it may use for its runs; null before it has told")
    memory_granted_bytes: int | None = Field(description="what its runs were granted of that")
    device_memory_bytes: int | None = Field(description="of a GPU, in all")
    device_used_bytes: int | None = Field(description="of a GPU, by whomever")
    draining: bool
    helps: bool = Field(description="whether it takes jobs of the GPUs when it is asked to")
    queues: list[str] = Field(description="that it takes from now")
    helping: list[HelpingView]
    started_at: Moment
    seen_at: Moment


class RunningView(View):
    id: UUID | None = Field(description="of your own jobs; null for those of others")
    model: str
    version: int
    stage: str | None
    progress: float = Field(description="0 to 1")
    priority: PriorityName
    lane: Lane
    queue: str
    worker: str
    seconds: float = Field(description="since this attempt began")


class PoolView(View):
    pool: Pool
    workers: int
    draining: int
    simulated: int
    slots: int
    running: int


class FleetView(View):
    at: Moment
    workers: list[WorkerView] | None
    running: list[RunningView] | None = Field(description="what runs now, the oldest jobs first")
    running_left_out: int = Field(description="of those that run, how many the list leaves out, at least")
    pools: list[PoolView] | None
    traffic_age_s: float | None = Field(description="since a leader looked at the queues last; null: never")
    unavailable: list[str] = Field(description=_MISSING)


class QueueView(View):
    name: str
    kind: QueueKind
    lane: Lane
    priority: PriorityName
    messages: int | None = Field(description="in the broker; a few may be of jobs that no longer wait there")
    published: int | None = Field(description="jobs that have a message")
    held: int | None = Field(description="jobs that wait in the record for their tenant's turn")
    aged: int | None = Field(description="of those that wait, how many were asked for with a lower priority")
    oldest_s: float | None = Field(description="of the job that has waited longest")
    gpu_s: float | None = Field(description="mean seconds of one of its jobs on a GPU; null while it is empty")
    cpu_s: float | None = Field(description="the same on a CPU")
    wait_s: float | None = Field(description="expected, of a job that comes now; null while nobody serves it")
    workers: int | None = Field(description="that take from it now")
    helpers: list[str] | None = Field(description="CPU workers that were asked to take from it for the GPUs")
    help_why: str | None


class LaneView(View):
    lane: Lane
    waiting: int | None
    limit: int
    yours: int | None = Field(description="of your tenant")
    your_limit: int


class QueuesView(View):
    at: Moment
    queues: list[QueueView]
    lanes: list[LaneView]
    traffic_age_s: float | None = Field(
        description="since a leader looked at the queues last; when that is too long ago, its figures are null"
    )
    unavailable: list[str] = Field(description=_MISSING)
