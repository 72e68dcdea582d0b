"""What goes into the job record and what comes out of it, besides the job itself: plain values, no verbs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import JsonValue

from fleet.contracts import Callback, DevicePolicy, Job, JobInput, Lane, Pool, Priority, RanOn, ShownState

#: Job and attempt: what a run must show with every write.
Token = tuple[UUID, int]


@dataclass(frozen=True)
class NewJob:
    """A validated, routed request. `idempotency_key` is None when the caller gave none."""

    id: UUID
    tenant: str
    task: str
    model: str
    version: int
    lane: Lane
    priority: Priority
    pool: Pool
    route_reason: str
    params: dict[str, Any]
    inputs: list[JobInput]
    labels: dict[str, str]
    max_attempts: int
    deadline_s: float
    execution_timeout_s: float
    #: Seconds from the end until job and objects are swept.
    retention_s: float
    uploads: list[UUID]
    #: Bytes of those inputs that lie beside the row, by their number.
    kept: Mapping[int, bytes] = field(default_factory=dict)
    #: Jobs whose results are inputs of this one.
    source_jobs: list[UUID] = field(default_factory=list)
    device_policy: DevicePolicy = DevicePolicy.PREFER_GPU
    callback: Callback | None = None
    trace_context: str | None = None
    idempotency_key: str | None = None
    #: Digest of the request body, see `fingerprint`.
    fingerprint: str = ""
    #: False leaves the first publication to the leader, as while the broker is known to be away.
    published: bool = True
    #: Messages that its tenant may have in the queue: with so many there, or with jobs of the tenant that wait for it,
    #: it waits in the record. None: it is known to have room, and nothing is counted.
    window: int | None = None
    #: Its caller hears of its end alone: its commit reaches the disk with that of its claim, and not by itself.
    awaited: bool = False

    @property
    def conditional(self) -> bool:
        """Whether it is stored only where something else is as expected."""
        return bool(self.idempotency_key is not None or self.uploads or self.source_jobs)

    @property
    def counted(self) -> bool:
        """Whether its tenant's messages in the queue have to be counted."""
        return self.published and self.window is not None


@dataclass(frozen=True)
class Submitted:
    job: Job
    #: True when the idempotency key had been used before: `job` is the first one.
    replayed: bool
    #: Whether it waits in the record for its tenant's turn, and is not to be published now.
    held: bool = False
    #: Messages that its tenant had in the queue, counted up to the window; None where they were not counted.
    published: int | None = None


@dataclass(frozen=True)
class Claim:
    """A won claim: the job with its token, and the seconds that matter for this run."""

    job: Job
    #: From submit to this claim.
    waited_s: float


@dataclass(frozen=True)
class LeaseWord:
    """What the record says of a lease that this process holds."""

    cancel_requested: bool
    overdue: bool


@dataclass(frozen=True)
class Standing:
    """How far a job is, for whoever waits for it or follows it."""

    revision: int
    ended: bool


@dataclass(frozen=True)
class JobFilter:
    state: ShownState | None = None
    model: str | None = None
    task: str | None = None
    priority: Priority | None = None
    labels: Mapping[str, str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True)
class Ending:
    """What every ending of an attempt writes besides its outcome."""

    timings: Mapping[str, float]
    ran_on: RanOn | None


def fingerprint(body: JsonValue) -> str:
    """SHA-256 of the canonical JSON of a request body."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
