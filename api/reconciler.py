"""The repair of everything that can get lost: in every api process, at work in one of them.

Every tick: lapsed leases, passed deadlines, messages that the broker lost. What is to be told to the broker is left to
the feeder, which the dispatcher (`dispatcher.py`) asks more often.
Every minute: uploads that nobody used, idempotency keys and workers of the past. What it does is safe to do twice, so
two leaders for a moment are harmless.
"""

import threading
import time

from api.doorbell import Doorbell
from api.feeder import Feeder
from api.leadership import Leadership
from api.measures import Measures
from api.steps import Steps
from api.tickets import remove_bytes
from fleet.broker import Broker
from fleet.catalogue import Catalogue
from fleet.objects import ObjectStore
from fleet.outbox import Outbox
from fleet.queues import ALL_QUEUES
from fleet.uploads import UploadStore

#: Seconds that a published job may wait before its message can be called lost.
GRACE_S = 5.0
_BATCH = 500
_FORGOTTEN_A_TICK = 20_000
_CHORES_EVERY_S = 60.0
_CHORES_GRACE_S = 2.0
_DEAD_WORKER_S = 3600.0
_UPLOADS_A_SWEEP = 200


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
        feeder: Feeder,
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
        self._feeder = feeder
        self._doorbell = Doorbell(broker)
        self._leadership = leadership
        self._measures = measures
        self._steps = Steps(measures)
        self._every_s = every_s
        self._patience_s = patience_s
        self._leads_since: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        # Chores wait for the object store, and a lapsed lease must not wait for that.
        self._chores_thread = threading.Thread(target=self._run_chores, name="reconciler-chores", daemon=True)

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
            if self.leading:
                self.chores()

    @property
    def leading(self) -> bool:
        """Whether this process led when it last looked."""
        return self._leads_since is not None

    def tick(self) -> None:
        """One round, if this process leads. Each step stands alone: a failure is logged, and the next step follows."""
        leading = False

        def lead() -> None:
            nonlocal leading
            leading = self._leadership.held()

        self._steps.run("lead", lead)
        self._measures.leading(leading)
        if not leading:
            self._leads_since = self._feeder.lost_before = None
            return
        now = time.monotonic()
        self._leads_since = self._leads_since or now
        if now - self._leads_since >= self._patience_s:
            # Leases first: what goes back to the queue is published in the same round.
            self._steps.run("leases", self._lapse_leases)
        self._steps.run("deadlines", self._expire_queued)
        self._steps.run("broker", self._tell_broker)

    def chores(self) -> None:
        """What has time: stale uploads, old keys, workers that are gone."""
        self._steps.run("uploads", self.sweep_uploads)
        self._steps.run("keys", self._outbox.forget_idempotency_keys)
        self._steps.run("workers", self._forget_workers)

    def _lapse_leases(self) -> None:
        jobs = self._outbox.lapse_leases()
        ended = [job for job in jobs if job.state.ended]
        self._steps.did("lease-lapsed", len(jobs), ended=len(ended), job_ids=[str(job.id) for job in jobs[:20]])
        self._doorbell.ended(ended)

    def _expire_queued(self) -> None:
        jobs = self._outbox.expire_queued()
        self._steps.did("deadline-passed", len(jobs), job_ids=[str(job.id) for job in jobs[:20]])
        self._doorbell.ended(jobs)

    def _tell_broker(self) -> None:
        self._repair_after_loss()
        self._find_overtaken()
        self._feeder.round()

    def _repair_after_loss(self) -> None:
        """Without its canary the broker has forgotten everything: it was flushed, or restarted without a file.

        The most urgent first and some at a time: workers have something to do at once, and lapsed leases do not wait.
        """
        if self._feeder.lost_before is None:
            seen_at = self._outbox.now()
            if self._broker.has_canary():
                return
            self._feeder.lost_before = seen_at
        left = _FORGOTTEN_A_TICK
        for queue in ALL_QUEUES:
            while lost := self._outbox.forget_publications(queue, self._feeder.lost_before, _BATCH):
                self._steps.did("broker-forgot", lost, queue=queue)
                left -= lost
                if left <= 0 or self._stop.is_set():
                    return
            self._feeder.round()
        self._broker.set_canary()
        self._feeder.lost_before = None

    def _find_overtaken(self) -> None:
        waiting = self._outbox.overdue_queues(ALL_QUEUES, GRACE_S)
        for queue, depth in self._broker.depths(waiting).items() if waiting else ():
            lost = self._outbox.forget_overtaken(queue, empty=depth == 0, grace_s=GRACE_S, limit=_BATCH)
            self._steps.did("message-lost", lost, queue=queue)

    def sweep_uploads(self) -> None:
        """Removes unused uploads past their time: the object first, so that a failure is repeated later."""
        swept = 0
        for upload in self._uploads.stale(_UPLOADS_A_SWEEP):
            if self._stop.is_set():
                break
            remove_bytes(self._objects, upload)
            swept += self._uploads.delete(upload.id, upload.tenant) is not None
        self._steps.did("upload-swept", swept)

    def _forget_workers(self) -> None:
        names = self._catalogue.forget_dead_workers(_DEAD_WORKER_S)
        self._outbox.forget_deaths(24 * _DEAD_WORKER_S)
        self._steps.did("worker-forgotten", len(names), workers=names)
