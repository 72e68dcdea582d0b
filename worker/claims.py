"""From a message to a held lease: may it run here and now, is the job still to be run, who renews its lease.

A message is only a hint, so a thread may wait here as long as it takes: if another worker is free, the reconciler
sends it a message of its own, and the claim here is refused.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from fleet.contracts import Stage
from fleet.errors import DependencyError
from fleet.job_values import Claim
from fleet.jobs import JobStore, lease_owner
from fleet.logs import get_logger
from fleet.queues import QueueKind
from worker.leases import Held, LeaseKeeper
from worker.measures import Measures
from worker.permits import Permits
from worker.progress import JobProgress
from worker.stop import StopToken

log = get_logger(__name__)
_CLAIM_AGAIN_S = 2.0
#: Whoever waits to be alone holds up newcomers: is the job still there to be taken?
_ASK_AGAIN_S = 2.0


class Claims:
    """Thread-safe."""

    def __init__(
        self, jobs: JobStore, leases: LeaseKeeper, permits: Permits, measures: Measures, *, worker: str, lease_s: float
    ) -> None:
        self._jobs = jobs
        self._leases = leases
        self._permits = permits
        self._measures = measures
        self._worker = worker
        self._lease_s = lease_s

    @contextmanager
    def taken(self, job_id: UUID, seq: int, kind: QueueKind | None = None) -> Iterator[Held | None]:
        """Around a run: its claim, or None when there is nothing to do. Whoever gets one must release it.

        `seq` is that of the message, `kind` that of the queue it lay in, where that is known (see `JobStore.claim`).

        A job that may be what killed its workers is claimed once it can run alone, and not before: while it waited
        with a lease, another such job beside it could cost it its last attempt.
        """
        with self._permits.together(self._draining) as permitted:
            held = self._claimed(job_id, seq, kind, alone=False) if permitted else None
            alone = permitted and held is None and not self._draining() and self._to_run_alone(job_id)
            if not alone:
                yield held
                return
        log.warning("suspected of killing its workers: it runs alone", job_id=str(job_id))
        with self._permits.alone(self._futile(job_id)) as permitted:
            yield self._claimed(job_id, seq, kind, alone=True) if permitted else None

    def _draining(self) -> bool:
        return self._leases.draining

    def _futile(self, job_id: UUID) -> Callable[[], bool]:
        """Whether there is nothing to wait for any more: this process drains, or the job is taken or ended."""
        asked_at = time.monotonic()

        def futile() -> bool:
            nonlocal asked_at
            if self._draining():
                return True
            if time.monotonic() - asked_at < _ASK_AGAIN_S:
                return False
            asked_at = time.monotonic()
            try:
                return not self._jobs.runs_alone(job_id)
            except DependencyError:
                return False

        return futile

    def _claimed(self, job_id: UUID, seq: int, kind: QueueKind | None, *, alone: bool) -> Held | None:
        with self._leases.taking() as allowed:
            claim = self._claim(job_id, seq, kind, alone) if allowed else None
            if claim is None:
                return None
            stop = StopToken()
            progress = JobProgress(stop)
            progress.note(Stage.QUEUE, claim.waited_s)
            held = Held(claim.job, stop, progress, time.monotonic() + claim.job.execution_timeout_s)
            self._leases.hold(held)
            return held

    def _claim(self, job_id: UUID, seq: int, kind: QueueKind | None, alone: bool) -> Claim | None:
        """With the record away, waits in this thread: the message is worth as much later as now."""
        # The same all along: a claim whose answer never came may have been won.
        owner = lease_owner(self._worker)
        while True:
            try:
                return self._jobs.claim(job_id, self._worker, self._lease_s, seq, alone=alone, owner=owner, kind=kind)
            except DependencyError as error:
                log.warning("no claim", job_id=str(job_id), code=error.code)
                if self._leases.wait_draining(_CLAIM_AGAIN_S):
                    return None

    def _to_run_alone(self, job_id: UUID) -> bool:
        """Why the claim was refused: for this reason, or because the message was a duplicate or stale."""
        try:
            if self._jobs.runs_alone(job_id):
                return True
        except DependencyError as error:
            # Its message is lost, then, and found to be so.
            log.warning("no claim", job_id=str(job_id), code=error.code)
            return False
        self._measures.claim_refused()
        log.debug("claim refused", job_id=str(job_id))
        return False
