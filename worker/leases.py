"""The lease keeper: one thread per process that renews the leases of all its runs in one statement.

It also brings the record's word to the runs: a cancelled, overdue or lost job gets its stop token set, and it
carries the runs' progress to the record.
"""

import threading
import time
from dataclasses import dataclass, field
from uuid import UUID

from fleet.contracts import Job
from fleet.errors import DependencyError
from fleet.jobs import JobStore
from fleet.logs import get_logger
from worker.progress import JobProgress
from worker.stop import StopReason, StopToken

_TICK_S = 0.5
log = get_logger(__name__)


@dataclass
class Held:
    """One run of this process."""

    job: Job
    stop: StopToken
    progress: JobProgress
    #: Moment of the monotonic clock after which the run has lasted too long.
    ends_at: float
    told: tuple[str | None, float] = field(default=(None, 0.0))


class LeaseKeeper:
    """`hold` when a claim was won, `release` when the run is over; `start` and `close` with the process."""

    def __init__(self, jobs: JobStore, lease_s: float) -> None:
        self._jobs = jobs
        self._lease_s = lease_s
        self._held: dict[UUID, Held] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def hold(self, held: Held) -> None:
        with self._changed:
            self._held[held.job.id] = held
            self._changed.notify_all()

    def release(self, job: Job) -> None:
        with self._changed:
            held = self._held.get(job.id)
            if held is not None and held.job.attempt == job.attempt:
                del self._held[job.id]
            self._changed.notify_all()

    @property
    def running(self) -> int:
        with self._changed:
            return len(self._held)

    def wait_idle(self, timeout_s: float) -> bool:
        """True as soon as nothing runs, False after the time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._held, timeout_s)

    def stop_all(self, reason: StopReason) -> None:
        for held in self._snapshot():
            held.stop.set(reason)

    def _snapshot(self) -> list[Held]:
        with self._changed:
            return list(self._held.values())

    def _keep(self) -> None:
        renewed_at = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._closing)
                if self._closing:
                    return
                # Sleeps a tick, but hears at once that the process closes.
                self._changed.wait_for(lambda: self._closing, _TICK_S)
            due = time.monotonic() - renewed_at >= self._lease_s / 3
            try:
                self._tick(renew=due)
            except DependencyError as error:
                # The token fences whoever comes late: running on is safe, and right when the record is back soon.
                log.warning("leases not renewed", error=error.message)
            else:
                renewed_at = time.monotonic() if due else renewed_at

    def _tick(self, *, renew: bool) -> None:
        runs = self._snapshot()
        now = time.monotonic()
        for run in runs:
            if now >= run.ends_at:
                run.stop.set(StopReason.EXECUTION_TIMEOUT)
        if not runs:
            return
        tokens = [(run.job.id, run.job.attempt) for run in runs]
        words = self._jobs.renew(tokens, self._lease_s) if renew else self._jobs.watch(tokens)
        for run in runs:
            word = words.get(run.job.id)
            if word is None:
                self._lost(run)
            elif word.cancel_requested:
                run.stop.set(StopReason.CANCELLED)
            elif word.overdue:
                run.stop.set(StopReason.DEADLINE)
        self._tell_progress(runs)

    def _lost(self, run: Held) -> None:
        with self._changed:
            still_running = self._held.get(run.job.id) is run
        if still_running and run.stop.reason is None:
            log.warning("lease lost", job_id=str(run.job.id), attempt=run.job.attempt)
            run.stop.set(StopReason.LEASE_LOST)

    def _tell_progress(self, runs: list[Held]) -> None:
        changed = [run for run in runs if run.progress.shown != run.told]
        notes = [(run.job.id, run.job.attempt, *run.progress.shown) for run in changed]
        if notes:
            self._jobs.note_progress(notes)
            for run, (_, _, stage, fraction) in zip(changed, notes, strict=True):
                run.told = (stage, fraction)
