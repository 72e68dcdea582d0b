"""The lease keeper: one thread per process that renews the leases of all its runs in one statement.

It also brings the record's word to the runs: a cancelled, overdue or lost job gets its stop token set, and it
carries the runs' progress to the record. A run that ignores its token for long is stuck in native code, which
nothing but the end of the process can stop.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fleet.contracts import Job
from fleet.errors import DependencyError
from fleet.job_values import Token
from fleet.jobs import JobStore
from fleet.logs import get_logger
from worker.exits import ExitCode, end_process
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

    def extend(self, seconds: float) -> None:
        """The run spent so long waiting for memory, which does not count against it."""
        self.ends_at += seconds

    @property
    def token(self) -> Token:
        return (self.job.id, self.job.attempt)


class LeaseKeeper:
    """`taking` around a claim, `hold` when it was won, `release` when the run is over."""

    def __init__(
        self,
        jobs: JobStore,
        lease_s: float,
        *,
        stop_patience_s: float,
        end: Callable[[ExitCode], object] = end_process,
    ) -> None:
        """`stop_patience_s`: between two windows of a large model, or in its load, a stop may take its time."""
        self._jobs = jobs
        self._lease_s = lease_s
        self._stop_patience_s = stop_patience_s
        self._end = end
        self._held: dict[Token, Held] = {}
        #: Threads that are about to claim, or that claimed and do not hold yet.
        self._taking = 0
        self._draining = False
        self._closing = threading.Event()
        self._looked_at = time.monotonic()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._thread.join()

    @contextmanager
    def taking(self) -> Iterator[bool]:
        """Around claim and hold: False when the process drains and must not claim any more."""
        with self._changed:
            self._taking += 1
            allowed = not self._draining
        try:
            yield allowed
        finally:
            with self._changed:
                self._taking -= 1
                self._changed.notify_all()

    def hold(self, held: Held) -> None:
        with self._changed:
            if not self._held:
                self._looked_at = time.monotonic()
            self._held[held.token] = held
            self._changed.notify_all()

    def release(self, held: Held) -> None:
        with self._changed:
            self._held.pop(held.token, None)
            self._changed.notify_all()

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def running(self) -> int:
        with self._changed:
            return len(self._held)

    @property
    def silent_s(self) -> float:
        """Seconds since the keeper has looked after the runs, 0 while there are none."""
        with self._changed:
            return time.monotonic() - self._looked_at if self._held else 0.0

    def drain(self) -> None:
        """From now on nothing new is claimed."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def wait_draining(self, timeout_s: float) -> bool:
        """Sleeps; True as soon as the process drains."""
        with self._changed:
            return self._changed.wait_for(lambda: self._draining, timeout_s)

    def wait_idle(self, timeout_s: float) -> bool:
        """True as soon as nothing runs and nobody claims, False after the time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._held and not self._taking, timeout_s)

    def stop_all(self, reason: StopReason) -> None:
        for held in self._snapshot():
            held.stop.set(reason)

    def hand_back_all(self, reason: StopReason) -> None:
        """For runs that are deaf: their leases go back without them, and the token fences whatever they still do."""
        for held in self._snapshot():
            log.warning("a run does not stop: its lease is handed back without it", job_id=str(held.job.id))
            try:
                self._jobs.hand_back(held.job, reason.value)
            except DependencyError as error:
                log.warning("lease not handed back", job_id=str(held.job.id), code=error.code)

    def _snapshot(self) -> list[Held]:
        with self._changed:
            return list(self._held.values())

    def _keep(self) -> None:
        renewed_at = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._closing.is_set())
            # Not by the condition, which every run that begins or ends would wake.
            if self._closing.wait(_TICK_S):
                return
            due = time.monotonic() - renewed_at >= self._lease_s / 3
            try:
                self._tick(renew=due)
            except DependencyError as error:
                # The token fences whoever comes late: running on is safe, and right when the record is back soon.
                log.warning("leases not renewed", code=error.code)
            except Exception:
                # Without this thread every run of the process would lose its lease: it outlives whatever comes.
                log.exception("leases not renewed")
            else:
                renewed_at = time.monotonic() if due else renewed_at
            # Also after a failure: what is watched here is this thread, not the record.
            self._looked_at = time.monotonic()

    def _tick(self, *, renew: bool) -> None:
        runs = self._snapshot()
        now = time.monotonic()
        for run in runs:
            if now >= run.ends_at:
                run.stop.set(StopReason.EXECUTION_TIMEOUT)
            self._end_if_stuck(run, now)
        if not runs:
            return
        tokens = [run.token for run in runs]
        words = self._jobs.renew(tokens, self._lease_s) if renew else self._jobs.watch(tokens)
        for run in runs:
            word = words.get(run.token)
            if word is None:
                self._lost(run)
            elif word.cancel_requested:
                run.stop.set(StopReason.CANCELLED)
            elif word.overdue:
                run.stop.set(StopReason.DEADLINE)
        self._tell_progress(runs)

    def _end_if_stuck(self, run: Held, now: float) -> None:
        if run.stop.set_at is not None and now - run.stop.set_at > self._stop_patience_s:
            job_id, after_s = str(run.job.id), self._stop_patience_s
            log.critical("a run does not stop: ending the process", job_id=job_id, after_s=after_s)
            self._end(ExitCode.RUN_STUCK)

    def _lost(self, run: Held) -> None:
        with self._changed:
            still_running = run.token in self._held
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
