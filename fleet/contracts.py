"""What api and worker agree on: the words of the design as types. Everything else uses these.

            ┌──── lease lapsed, drained, or retryable failure (attempt < max_attempts) ────┐
            ▼                                                                              │
submit ─▶ queued ──claim──▶ running ──finish──▶ succeeded                                  │
            │                 │ ├──── fatal error, or attempts spent ──▶ failed            │
            │                 │ ├──── deadline ────────────────────────▶ expired           │
            │                 │ └──────────────────────────────────────────────────────────┘
            │                 └──── cancel asked, worker confirms ──▶ cancelled ◀── cancel while queued
            └──── deadline ─▶ expired
"""

from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, field_validator

from fleet.values import Recorded
from fleet.webhook_values import CallbackBody


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class ShownState(StrEnum):
    """What users see: a running job that was asked to stop is `cancelling` until it has stopped."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        return self not in (ShownState.QUEUED, ShownState.RUNNING, ShownState.CANCELLING)


class Priority(IntEnum):
    """0 starts first, as Celery on Redis counts. Triton's request priority counts from 1."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class PriorityName(StrEnum):
    """The same in words, as the API and the queue names say it."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> Priority:
        return Priority[self.name]


class Lane(StrEnum):
    INTERACTIVE = "interactive"
    BULK = "bulk"


class Pool(StrEnum):
    GPU = "gpu"
    CPU = "cpu"


class DevicePolicy(StrEnum):
    """Where a model may run, as its card says."""

    GPU_ONLY = "gpu-only"
    PREFER_GPU = "prefer-gpu"
    ANY = "any"
    CPU_ONLY = "cpu-only"


class MediaKind(StrEnum):
    """What a task reads."""

    VOLUME = "volume"
    IMAGE = "image"
    TEXT = "text"
    TENSORS = "tensors"
    NONE = "none"


class ResultKind(StrEnum):
    """What a task returns; each kind has one encoder in the worker."""

    MASK = "mask"
    JSON = "json"
    TENSORS = "tensors"
    EMBEDDINGS = "embeddings"
    ITEMS = "items"


class Stage(StrEnum):
    """The stages of a job, in order; each is timed on the record."""

    QUEUE = "queue"
    LOAD = "load"
    FETCH = "fetch"
    DECODE = "decode"
    PREPARE = "prepare"
    INFER = "infer"
    FINISH = "finish"
    ENCODE = "encode"
    STORE = "store"


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: Names of models, as in Triton's layout: a folder name, no slash.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
FileName = Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f]{1,255}$")]


class ObjectRef(Recorded):
    """Bytes that travel by reference."""

    bucket: str
    key: str
    size: int = Field(ge=0, description="bytes")
    sha256: Sha256 | None = Field(default=None, description="verified at every read; null until the first one")
    media_type: str = "application/octet-stream"
    name: FileName | None = Field(default=None, description="the file name that the user knows it by")


class InlineInput(Recorded):
    """A small input that lies in the job row itself."""

    data: str = Field(max_length=90_000, description="base64 of at most 64 KiB")
    name: FileName | None = None
    media_type: str = "application/octet-stream"


class KeptInput(Recorded):
    """An input whose bytes the record keeps beside the job's row; see fleet/kept_inputs.py."""

    size: int = Field(gt=0, description="bytes")
    sha256: Sha256 = Field(description="verified at every read")
    name: FileName | None = None
    media_type: str = "application/octet-stream"


class LinkInput(Recorded):
    """A picture that the worker fetches when the job runs."""

    url: str = Field(max_length=4096)
    name: FileName | None = None
    size: int = Field(default=0, ge=0, description="bytes that the last run got; 0 until then")
    sha256: Sha256 | None = Field(default=None, description="of those bytes")


class JobInput(Recorded):
    """One input as the row keeps it: an object, a few bytes, more of them beside the row, or a URL."""

    object: ObjectRef | None = None
    inline: InlineInput | None = None
    kept: KeptInput | None = None
    link: LinkInput | None = None
    listed: bool = Field(default=False, description="found under a prefix: the answer is a list, even of one")

    @property
    def size(self) -> int:
        """In bytes."""
        for described in (self.object, self.kept, self.link):
            if described is not None:
                return described.size
        base64 = self.inline.data if self.inline is not None else ""
        return len(base64) // 4 * 3 - base64[-2:].count("=")


class RanOn(Recorded):
    """Where an attempt ran, and why there."""

    worker: str
    pool: Pool
    device: str
    provider: str = Field(description="the execution provider that was really in use")
    simulated: bool = False
    batch_size: int = 1
    cached: bool | None = Field(default=None, description="whether the model was loaded already; null: nobody asked")
    why: str = Field(default="", description="why this pool, in words")
    fallback: str = Field(default="", description="the provider asked for and the one used in its place, and why")
    model_sha256: Sha256 | None = None


class JobError(Recorded):
    code: str
    message: str
    retryable: bool = False
    input_at_fault: bool = Field(default=False, description="what was sent must be corrected")
    facts: dict[str, Any] = Field(default_factory=dict)


class AttemptNote(Recorded):
    """An attempt that did not succeed, or a retry by hand."""

    attempt: int
    outcome: str = Field(description="failed, worker-lost, handed-back or retried")
    worker: str | None = None
    detail: str | None = Field(default=None, description="the error's code, or how the worker was lost")
    at: datetime


class Callback(Recorded):
    """Who is to be told of a job's life by webhook."""

    url: str
    events: list[str] = Field(description="for instance `job.succeeded`")
    body: CallbackBody = CallbackBody.EVENT


class Artifact(Recorded):
    """A file that a job made."""

    name: FileName
    object: ObjectRef


class Job(Recorded):
    """A job as the record holds it. Times are UTC; timings are seconds per stage."""

    id: UUID
    tenant: str
    task: str
    model: str
    version: int
    lane: Lane
    priority: Priority
    pool: Pool
    queue: str
    device_policy: DevicePolicy = DevicePolicy.PREFER_GPU
    input_bytes: int = 0
    state: JobState
    stage: str | None = None
    progress: float = Field(default=0.0, ge=0, le=1)
    params: dict[str, Any] = Field(default_factory=dict)
    inputs: list[JobInput] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)
    result: dict[str, Any] | None = None
    artifacts: list[Artifact] = Field(default_factory=list)
    error: JobError | None = None
    attempt: int = 0
    max_attempts: int = 3
    cancel_requested: bool = False
    deadline: datetime | None = None
    execution_timeout_s: float = 3600.0
    timings: dict[str, float] = Field(default_factory=dict)
    ran_on: RanOn | None = None
    route_reason: str = ""
    trace_context: str | None = None
    publish_seq: int = 0
    #: Grows with every change that a user can see.
    revision: int = 0
    #: Attempts whose worker was lost, since the last retry by hand; and those that do not count as spent.
    losses: int = 0
    forgiven: int = 0
    retries: int = 0
    history: list[AttemptNote] = Field(default_factory=list)
    callback: Callback | None = None
    retention_s: float = 604800.0
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    deleted_at: datetime | None = None

    @field_validator("timings")
    @classmethod
    def _in_order_of_stages(cls, timings: dict[str, float]) -> dict[str, float]:
        return {stage.value: timings[stage.value] for stage in Stage if stage.value in timings}

    @property
    def last_attempt(self) -> bool:
        """Whether the attempt under way is the last one that the job has."""
        return self.attempt - self.forgiven >= self.max_attempts

    @property
    def shown_state(self) -> ShownState:
        if self.state is JobState.RUNNING and self.cancel_requested:
            return ShownState.CANCELLING
        return ShownState(self.state.value)
