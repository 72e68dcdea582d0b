"""What the server says, as values. Reading is tolerant: fields that this version does not know are ignored."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """Immutable; unknown fields are dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class JobState(StrEnum):
    """The states of a job; the last four are final. A newer server may know more, so records hold plain text."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})


class InputRecord(Record):
    name: str | None = None
    size: int | None = Field(default=None, description="bytes")
    media_type: str | None = None
    sha256: str | None = None


class Artifact(Record):
    """A file that a job made; `Job.save` fetches it."""

    name: str
    size: int | None = Field(default=None, description="bytes")
    sha256: str | None = None
    media_type: str = "application/octet-stream"
    url: str | None = None


class JobFault(Record):
    """Why a job failed. `code` is stable; `retryable` says whether the same job may succeed later."""

    code: str
    message: str = ""
    retryable: bool = False
    facts: dict[str, Any] = Field(default_factory=dict)


class RanOn(Record):
    """Where the job ran, and why there. `provider` is the execution provider that was really in use.

    `fallback` says what was asked for in its place, and why it was not used; empty when all was as asked.
    """

    worker: str | None = None
    pool: str | None = None
    device: str | None = None
    provider: str | None = None
    simulated: bool = False
    batch_size: int | None = None
    why: str | None = None
    fallback: str | None = None
    model_sha256: str | None = None


class AttemptNote(Record):
    """An attempt that did not succeed, or a retry by hand. `detail` is an error's code, or how the worker was lost."""

    attempt: int
    outcome: str
    worker: str | None = None
    detail: str | None = None
    at: datetime | None = None


class Callback(Record):
    """Who is to be told of a job by webhook, and of what: `job.started`, `job.succeeded`, ... By default of its end.

    `body`: `event`, Fleet's own, or `runpod`, the job as RunPod's receivers read it.
    """

    url: str
    events: list[str] = Field(default_factory=list)
    body: str = "event"


class Span(Record):
    """Moments: as likely earlier as later than `expected`, four times of five from `earliest` to `latest`."""

    earliest: datetime
    expected: datetime
    latest: datetime


class Forecast(Record):
    """When a job is expected to start and to end, as the server saw it at the moment `at`, by its own clock.

    `position`: 1 starts next in its queue; `position_at_least` when it was counted no further. `start` is None once it
    runs; both are None while nobody can take the job, and `why` says so. `basis`: what the time that it takes goes by.
    """

    at: datetime
    position: int | None = None
    position_at_least: bool = False
    start: Span | None = None
    end: Span | None = None
    basis: str | None = None
    why: str | None = None


class JobRecord(Record):
    """A job as the server last described it. `timings` are seconds per stage, `progress` runs from 0 to 1."""

    id: str
    state: str
    task: str = ""
    model: str = ""
    version: int | None = None
    stage: str | None = None
    progress: float = 0.0
    priority: str | None = None
    lane: str | None = None
    queue: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    inputs: list[InputRecord] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)
    result: dict[str, Any] | None = None
    artifacts: list[Artifact] = Field(default_factory=list)
    error: JobFault | None = None
    attempt: int = 0
    max_attempts: int | None = None
    history: list[AttemptNote] = Field(default_factory=list, description="what did not succeed, oldest first")
    cancel_requested: bool = False
    deadline: datetime | None = None
    execution_timeout_s: float | None = None
    timings: dict[str, float] = Field(default_factory=dict)
    ran_on: RanOn | None = None
    route_reason: str | None = None
    callback: Callback | None = None
    retries: int = Field(default=0, description="by hand")
    retention_s: float | None = Field(default=None, description="seconds that it is kept after its end")
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = Field(default=None, description="when it is swept, with its inputs and results")
    forecast: Forecast | None = Field(default=None, description="of one that waits or runs, when asked for alone")

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class ItemFault(Record):
    """Why one of many failed. `code` is stable."""

    code: str
    detail: str = ""


class JobItem(Record):
    """What became of one of many: its `result`, or its `error`."""

    index: int
    name: str = ""
    result: dict[str, Any] | None = None
    error: ItemFault | None = None


class JobPage(Record):
    jobs: list[JobRecord]
    next_cursor: str | None = None


class Model(Record):
    """What the catalogue knows of a model; `params_schema` is the JSON Schema of what a request may ask for."""

    name: str
    version: int
    versions: list[int] = Field(default_factory=list)
    task: str = ""
    description: str = ""
    licence: str = ""
    accepts: str | None = None
    returns: str | None = None
    params_schema: dict[str, Any] = Field(default_factory=dict)
    lane: str | None = None
    device: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    labels: dict[int, str] = Field(default_factory=dict)
    execution_timeout_s: float | None = None
    max_attempts: int | None = None
    expected_s: dict[str, float] = Field(default_factory=dict, description="pool -> seconds of a typical job")
    aliases: dict[str, int] = Field(default_factory=dict)
    inputs: list[dict[str, Any]] = Field(default_factory=list, description="tensors: name, datatype, shape")
    outputs: list[dict[str, Any]] = Field(default_factory=list)
    max_batch_size: int | None = None
    unloaded: bool = False
    ready_workers: int = 0


class TicketPart(Record):
    """One slice of the file: `size` bytes from `offset`, to be PUT at `url`."""

    number: int
    offset: int
    size: int
    url: str


class Ticket(Record):
    """Where to PUT the bytes of an upload: at `url`, or slice by slice at `parts`."""

    id: str
    state: str = "pending"
    method: str = "PUT"
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    parts: list[TicketPart] | None = None


@dataclass(frozen=True)
class Upload:
    """Bytes that are at the server already: an input for any number of jobs."""

    id: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ObjectRef:
    """An object of yours in the server's bucket, for instance another job's result, as an input."""

    bucket: str
    key: str


@dataclass(frozen=True)
class ObjectPrefix:
    """All objects of yours in the server's bucket whose keys begin with this, as inputs: pictures, at most 1,000."""

    bucket: str
    key: str


@dataclass(frozen=True)
class Transfer:
    """How far an upload or a download is, in bytes. `total` is None when the server did not say."""

    name: str
    done: int
    total: int | None
