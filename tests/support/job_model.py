"""What the record must say of a job after each verb, in plain Python: the other side of `test_job_store_model.py`.

Each verb tells whether it takes effect; one that is refused leaves the job as it was.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

#: The place of what is published whatever waits before it.
AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
LAPSED = "its lease lapsed: the worker was killed, froze or was cut off"
ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
#: Columns that a user sees change; the rest is between Fleet and its servers.
VISIBLE = (
    *("state", "stage", "progress", "result", "artifacts", "inputs", "error", "attempt", "cancel_requested"),
    *("deadline", "timings", "ran_on", "history", "retries", "started_at", "finished_at", "expires_at", "deleted_at"),
)


@dataclass
class JobModel:
    """One job. Moments are those of the test's clock; `publish_after` may lie anywhere between two."""

    id: UUID
    tenant: str
    queue: str
    max_attempts: int
    deadline_s: float
    retention_s: float
    deadline: datetime
    published_at: datetime | None
    publish_after: tuple[datetime, datetime]
    state: str = "queued"
    stage: str | None = None
    progress: float = 0.0
    result: dict[str, Any] | None = None
    error: str | None = None
    facts: dict[str, Any] | None = None
    timings: dict[str, float] = field(default_factory=dict)
    attempt: int = 0
    forgiven: int = 0
    losses: int = 0
    retries: int = 0
    revision: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    cancel_requested: bool = False
    worker: str | None = None
    lease_until: datetime | None = None
    publish_seq: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def spent(self) -> int:
        return self.attempt - self.forgiven

    def shown_to(self, tenant: str) -> bool:
        return tenant == self.tenant and self.deleted_at is None

    def holds(self, attempt: int) -> bool:
        return self.state == "running" and self.attempt == attempt

    def lapsed(self, now: datetime) -> bool:
        return self.lease_until is not None and self.lease_until < now

    def runs_alone(self, now: datetime) -> bool:
        """Its last attempt, after it lost workers: it may be what killed them."""
        suspect = (self.state == "queued" and self.losses > 0) or self.lapsed(now)
        return suspect and not self.cancel_requested and self.spent + 1 == self.max_attempts

    def claim(self, worker: str, lease_s: float, seq: int, now: datetime, *, alone: bool) -> bool:
        free = self.state == "queued" or self.lapsed(now)
        if self.cancel_requested or self.spent >= self.max_attempts or self.deadline <= now or not free:
            return False
        if self.runs_alone(now) and not alone:
            return False
        if seq != self.publish_seq or self.history:
            self.published_at = None
        if self.state == "running":
            self.losses += 1
            self._note("worker-lost", "its lease lapsed")
        self.state, self.attempt, self.worker = "running", self.attempt + 1, worker
        self.stage, self.progress, self.error, self.facts = None, 0.0, None, None
        self.lease_until = now + timedelta(seconds=lease_s)
        self.started_at = self.started_at or now
        self.revision += 1
        return True

    def renew(self, attempt: int, lease_s: float, now: datetime) -> bool:
        if not self.holds(attempt):
            return False
        self.lease_until = now + timedelta(seconds=lease_s)
        return True

    def note(self, attempt: int, stage: str, progress: float) -> bool:
        if not self.holds(attempt) or (self.stage, self.progress) == (stage, progress):
            return False
        self.stage, self.progress = stage, progress
        self.revision += 1
        return True

    def finish(self, attempt: int, result: dict[str, Any], timings: dict[str, float], now: datetime) -> bool:
        if not self.holds(attempt):
            return False
        self.result, self.timings, self.progress = result, timings, 1.0
        self._end("succeeded", now)
        return True

    def fail(self, attempt: int, code: str, timings: dict[str, float], now: datetime, *, retryable: bool) -> bool:
        if not self.holds(attempt):
            return False
        self._note("failed", code)
        pause = timedelta(seconds=min(300, 2 ** min(self.spent, 10)))
        self.error, self.facts, self.timings = code, None, timings
        if self.cancel_requested:
            self._end("cancelled", now)
        elif retryable and self.spent < self.max_attempts:
            self._back()
        else:
            self._end("failed", now)
        self._publish_later(now + pause / 2, now + pause)
        return True

    def stop(self, attempt: int, state: str, code: str, timings: dict[str, float], now: datetime) -> bool:
        if not self.holds(attempt):
            return False
        self.error, self.facts, self.timings = code, None, timings
        self._end(state, now)
        return True

    def hand_back(self, attempt: int, reason: str, pause_s: float, now: datetime) -> bool:
        if not self.holds(attempt):
            return False
        self._note("handed-back", reason)
        self.forgiven += 1
        if self.cancel_requested:
            self._end("cancelled", now)
            self.progress = 0.0
        else:
            self._back()
        due = now + timedelta(seconds=pause_s) if pause_s else AT_ONCE
        self._publish_later(due, due)
        return True

    def cancel(self, tenant: str, now: datetime) -> bool:
        if not self.shown_to(tenant) or self.ended:
            return False
        self.revision += not self.cancel_requested
        self.cancel_requested = True
        if self.state == "queued":
            self.revision -= 1
            self._end("cancelled", now)
        return True

    def retry(self, tenant: str, deadline_s: float | None, now: datetime) -> bool:
        if not self.shown_to(tenant) or not self.ended or self.state == "succeeded":
            return False
        self._note("retried", self.state)
        self.state, self.forgiven, self.losses, self.retries = "queued", self.attempt, 0, self.retries + 1
        self.cancel_requested, self.error, self.facts, self.timings = False, None, None, {}
        self.stage, self.progress = None, 0.0
        self.started_at = self.finished_at = self.expires_at = None
        self.deadline_s = deadline_s or self.deadline_s
        self.deadline = now + timedelta(seconds=self.deadline_s)
        self.published_at, self.publish_after = now, (now, now)
        self.publish_seq += 1
        self.revision += 1
        return True

    def delete(self, tenant: str, now: datetime) -> bool:
        if not self.shown_to(tenant):
            return False
        self.cancel_requested = self.cancel_requested or not self.ended
        if self.state == "queued":
            self.state, self.finished_at = "cancelled", now
        self.deleted_at = now
        self.revision += 1
        return True

    def bury(self, worker: str, now: datetime) -> bool:
        if self.state != "running" or self.worker != worker or self.lease_until is None:
            return False
        self.lease_until = min(self.lease_until, now)
        return True

    def lapse(self, how: str, now: datetime) -> bool:
        """`how` the worker was lost, as far as anybody knows."""
        if not self.lapsed(now):
            return False
        lost_by = self.worker
        self._note("worker-lost", how)
        self.losses += 1
        self.error, self.facts = None, None
        if self.cancel_requested:
            self._end("cancelled", now)
        elif self.deadline <= now:
            self.error = "expired"
            self._end("expired", now)
        elif self.spent < self.max_attempts:
            self._back()
        else:
            self.error = "poisoned"
            self.facts = {"worker": lost_by, "attempts": self.spent, "losses": self.losses, "how": how}
            self._end("failed", now)
        self._publish_later(AT_ONCE, AT_ONCE)
        return True

    def expire(self, now: datetime) -> bool:
        if self.state != "queued" or self.deadline > now:
            return False
        self.error, self.facts = "expired", None
        self._end("expired", now)
        return True

    def due(self, now: datetime) -> bool:
        return self.state == "queued" and self.published_at is None and self.publish_after[0] <= now

    def unpublish(self, seq: int, due: datetime | None = None) -> bool:
        """Keeps its place among those that wait, unless another is given."""
        if self.state != "queued" or self.publish_seq != seq:
            return False
        self._publish_later(*((due, due) if due is not None else self.publish_after))
        return True

    def _end(self, state: str, now: datetime) -> None:
        self.state, self.stage, self.worker, self.lease_until = state, None, None, None
        self.finished_at, self.expires_at = now, now + timedelta(seconds=self.retention_s)
        self.revision += 1

    def _back(self) -> None:
        self.state, self.stage, self.progress, self.worker, self.lease_until = "queued", None, 0.0, None, None
        self.revision += 1

    def _publish_later(self, earliest: datetime, latest: datetime) -> None:
        self.published_at, self.publish_after = None, (earliest, latest)
        self.publish_seq += 1

    def _note(self, outcome: str, detail: str) -> None:
        note = {"attempt": self.attempt, "worker": self.worker, "outcome": outcome, "detail": detail}
        self.history = [*self.history, {key: value for key, value in note.items() if value is not None}][-50:]
