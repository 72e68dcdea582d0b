"""Webhooks as plain values, and what a try's outcome means: the schedule and its end."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

_HOUR_S = 3600.0
#: Seconds after each failed try, the schedule that Standard Webhooks proposes: ten tries in three days.
PAUSES_S = (5.0, 300.0, 1800.0, *(hours * _HOUR_S for hours in (2, 5, 10, 14, 20, 24)))
#: A receiver may ask for a longer pause than the schedule has, up to this one.
MAX_RETRY_AFTER_S = 24 * _HOUR_S
_GONE = 410


class JobEvent(StrEnum):
    """What can be told of a job. `job.queued` is its return to the queue, never the submit."""

    QUEUED = "job.queued"
    STARTED = "job.started"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    EXPIRED = "job.expired"


#: What is told when nothing else was asked for: the four endings.
ENDINGS = (JobEvent.SUCCEEDED, JobEvent.FAILED, JobEvent.CANCELLED, JobEvent.EXPIRED)


class CallbackBody(StrEnum):
    """In whose form a receiver is told."""

    EVENT = "event"
    #: The job as RunPod's clients read it.
    RUNPOD = "runpod"


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    #: The schedule came to its end.
    FAILED = "failed"
    #: The receiver answered 410, to this delivery or to another at the same URL.
    GONE = "gone"


@dataclass(frozen=True)
class Delivery:
    """One event for one receiver. `data` is the job as it was at that moment."""

    id: UUID
    number: int
    tenant: str
    job_id: UUID
    url: str
    host: str
    type: str
    data: dict[str, Any]
    state: DeliveryState
    #: How often it was tried, lost tries included; while one is under way, its number.
    tries: int
    #: Tries before the last replay.
    forgiven: int
    due_at: datetime
    created_at: datetime
    ended_at: datetime | None
    body: CallbackBody = CallbackBody.EVENT

    @property
    def message_id(self) -> str:
        """The `webhook-id`, the same for every try."""
        return f"msg_{self.id.hex}"


@dataclass(frozen=True)
class Try:
    """`took_ms` is None while it is under way, and for ever when its sender was lost."""

    number: int
    at: datetime
    took_ms: float | None
    status: int | None
    error: str | None


@dataclass(frozen=True)
class TryResult:
    """`status` is None without an answer, `error` None after a success."""

    took_ms: float
    status: int | None
    error: str | None = None
    #: What the receiver asked for, in seconds.
    retry_after_s: float = 0.0


@dataclass(frozen=True)
class Backlog:
    pending: int
    oldest_s: float


def verdict(tries: int, status: int | None) -> tuple[DeliveryState, float]:
    """What a try that ended with this status (None: no answer) means, as the `tries`-th of its schedule.

    -> the delivery's state, and the seconds until the next try.
    """
    if status is not None and 200 <= status < 300:
        return DeliveryState.DELIVERED, 0.0
    if status == _GONE:
        return DeliveryState.GONE, 0.0
    if tries > len(PAUSES_S):
        return DeliveryState.FAILED, 0.0
    return DeliveryState.PENDING, PAUSES_S[tries - 1]
