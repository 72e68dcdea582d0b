"""The repair of everything that can get lost: in every api process, at work in one of them.

Every tick: lapsed leases, passed deadlines, messages that the broker lost, jobs that it was never told of.
Every minute: uploads that nobody used, idempotency keys and workers of the past. What it does is safe to do twice, so
two leaders for a moment are harmless.
"""

import threading
import time
from collections.abc import Callable

from api.doorbell import Doorbell
from api.leadership import Leadership
from api.measures import Measures
from api.tickets import remove_bytes
from fleet.broker import Broker, message, queues, shadow_name
from fleet.catalogue import Catalogue
from fleet.contracts import Lane, Pool
from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.objects import ObjectStore
from fleet.outbox import Outbox, Publication
from fleet.uploads import UploadStore

#: Seconds that a published job may wait before its message can be called lost.
GRACE_S = 5.0
_BATCH = 500
_BATCHES_A_TICK = 20
_CHORES_EVERY_S = 60.0
_CHORES_GRACE_S = 2.0
_DEAD_WORKER_S = 3600.0
_UPLOADS_A_SWEEP = 200
log = get_logger(__name__)


class Reconciler:
    """`start` and `close` with the process; `tick` is one round."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        uploads: UploadStore,
        catalogue: Catalogue,
        objects: ObjectStore,
        broker: Broker,
        leadership: Leadership,
        measures: Measures,
        every_s: float,
        patience_s: float = 0.0,
    ) -> None:
        """`patience_s`: after taking the lead, how long workers are given to renew leases that an outage let lapse."""
        self._outbox = outbox
        self._uploads = uploads
        self._catalogue = catalogue
        self._objects = objects
        self._broker = broker
        self._doorbell = Doorbell(broker)
        self._leadership = leadership
        self._measures = measures
        self._every_s = every_s
        self._patience_s = patience_s
        self._leads_since: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        # Chores wait for the object store, and a lapsed lease must not wait for that.
        self._chores_thread = threading.Thread(target=self._run_chores, name="reconciler-chores", daemon=True)
        #: step -> code of its last failure, so that a lasting fault is one line in the log.
        self._faults: dict[str, str] = {}

    def start(self) -> None:
        self._thread.start()
        self._chores_thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        # It may be waiting for a store that hangs; what it does can be done again by the next leader.
        self._chores_thread.join(_CHORES_GRACE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.tick()
            self._stop.wait(self._every_s)
        self._leadership.close()

    def _run_chores(self) -> None:
        while not self._stop.wait(_CHORES_EVERY_S):
            if self._leads_since is not None:
                self.chores()

    def tick(self) -> None:
        """One round, if this process leads. Each step stands alone: a failure is logged, and the next step follows."""
        leading = False

        def lead() -> None:
            nonlocal leading
            leading = self._leadership.held()

        self._step("lead", lead)
        self._measures.leading(leading)
        if not leading:
            self._leads_since = None
            return
        now = time.monotonic()
        self._leads_since = self._leads_since or now
        if now - self._leads_since >= self._patience_s:
            # Leases first: what goes back to the queue is published in the same round.
            self._step("leases", self._lapse_leases)
        self._step("deadlines", self._expire_queued)
        self._step("broker", self._tell_broker)

    def chores(self) -> None:
        """What has time: stale uploads, old keys, workers that are gone."""
        self._step("uploads", self.sweep_uploads)
        self._step("keys", self._outbox.forget_idempotency_keys)
        self._step("workers", self._forget_workers)

    def _step(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except DependencyError as error:
            self._measures.reconciler_failed(name)
            if self._faults.get(name) != error.code:
                log.warning("reconciler step failed", step=name, error=error.code)
            self._faults[name] = error.code
        except Exception:
            self._measures.reconciler_failed(name)
            log.exception("reconciler step failed", step=name)
        else:
            if self._faults.pop(name, None):
                log.info("reconciler step works again", step=name)

    def _did(self, action: str, count: int, **facts: object) -> None:
        if count:
            self._measures.reconciled(action, count)
            log.info("reconciled", action=action, count=count, **facts)

    def _lapse_leases(self) -> None:
        jobs = self._outbox.lapse_leases()
        ended = [job for job in jobs if job.state.ended]
        self._did("lease-lapsed", len(jobs), ended=len(ended), job_ids=[str(job.id) for job in jobs[:20]])
        self._doorbell.ended(ended)

    def _expire_queued(self) -> None:
        jobs = self._outbox.expire_queued()
        self._did("deadline-passed", len(jobs), job_ids=[str(job.id) for job in jobs[:20]])
        self._doorbell.ended(jobs)

    def _tell_broker(self) -> None:
        self._repair_after_loss()
        self._find_overtaken()
        self._publish()

    def _repair_after_loss(self) -> None:
        """Without its canary the broker has forgotten everything: it was flushed, or restarted without a file."""
        seen_at = self._outbox.now()
        if not self._broker.has_canary():
            self._did("broker-forgot", self._outbox.forget_publications(seen_at))
            self._broker.set_canary()

    def _find_overtaken(self) -> None:
        waiting = self._outbox.overdue_queues(queues(Pool, Lane), GRACE_S)
        for queue, depth in self._broker.depths(waiting).items() if waiting else ():
            lost = self._outbox.forget_overtaken(queue, empty=depth == 0, grace_s=GRACE_S, limit=_BATCH)
            self._did("message-lost", lost, queue=queue)

    def _publish(self) -> None:
        for _ in range(_BATCHES_A_TICK):
            due = self._outbox.take_unpublished(_BATCH)
            if due:
                self._publish_batch(due)
            if len(due) < _BATCH or self._stop.is_set():
                return

    def _publish_batch(self, due: list[Publication]) -> None:
        try:
            self._broker.publish_all(
                [(job.queue, message(job.job_id, job.seq, job.queue, shadow_name(job.task, job.model))) for job in due]
            )
        except DependencyError:
            self._outbox.unpublish(due)
            raise
        self._did("published", len(due))

    def sweep_uploads(self) -> None:
        """Removes unused uploads past their time: the object first, so that a failure is repeated later."""
        swept = 0
        for upload in self._uploads.stale(_UPLOADS_A_SWEEP):
            if self._stop.is_set():
                break
            remove_bytes(self._objects, upload)
            swept += self._uploads.delete(upload.id, upload.tenant) is not None
        self._did("upload-swept", swept)

    def _forget_workers(self) -> None:
        names = self._catalogue.forget_dead_workers(_DEAD_WORKER_S)
        self._outbox.forget_deaths(24 * _DEAD_WORKER_S)
        self._did("worker-forgotten", len(names), workers=names)
