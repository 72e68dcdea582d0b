"""The sweeper: removes what was deleted, what has been kept long enough, and what nobody needs.

In every api process, at work in the one that leads, in a thread of its own: it waits for the object store, and nothing
else shall. Every two seconds it looks for deleted jobs, for parts of ended ones and for room that inputs have left,
every minute for expired jobs and for orphans.
"""

import threading
import time
from collections.abc import Callable

from api.measures import Measures
from api.orphans import OrphanWalk
from api.removal import Removal
from api.steps import Steps
from fleet.database import Database
from fleet.kept_inputs import KeptInputs
from fleet.parts import PartStore
from fleet.retention import Hidden, Retention
from fleet.settings import Settings

_EVERY_S = 2.0
_EXPIRE_EVERY_S = 60.0
_BATCH = 500
#: Of expired jobs in a minute: ten thousand, fourteen million a day.
_BATCHES_A_ROUND = 20
_CLOSE_S = 2.0


class Sweeper:
    """`start` and `close` with the process; `tick` is one round."""

    def __init__(
        self,
        *,
        retention: Retention,
        removal: Removal,
        parts: PartStore,
        kept: KeptInputs,
        orphans: OrphanWalk,
        steps: Steps,
        measures: Measures,
        leading: Callable[[], bool],
    ) -> None:
        self._retention = retention
        self._removal = removal
        self._parts = parts
        self._kept = kept
        self._orphans = orphans
        self._steps = steps
        self._measures = measures
        self._leading = leading
        self._expired_at = float("-inf")
        self._free_again_at = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        # It may be waiting for a store that hangs; what it does can be done again by the next leader.
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            if self._leading():
                self.tick()

    def tick(self) -> None:
        """Deletions first: somebody waits for them."""
        self._steps.run("deletions", self.remove_hidden)
        self._steps.run("parts", self.remove_parts)
        self._steps.run("inputs", self.free_inputs)
        if time.monotonic() - self._expired_at >= _EXPIRE_EVERY_S:
            self._expired_at = time.monotonic()
            self._steps.run("retention", self.expire)
            self._steps.run("orphans", lambda: self._orphans.go_on(self._stop))
            self._steps.run("sweep-lag", lambda: self._measures.sweep_lag(self._retention.hidden_for_s()))

    def remove_parts(self) -> None:
        """What attempts have kept of jobs that have ended since."""
        for job in self._parts.needless(_BATCH):
            if self._stop.is_set():
                return
            self._steps.did("part-removed", self._parts.remove(job), job_id=str(job.job_id))

    def free_inputs(self) -> None:
        """Room of inputs in the record whose jobs have succeeded. Takes a twentieth of the time at most."""
        began = time.monotonic()
        if began < self._free_again_at:
            return
        # Not at once where it fails.
        self._free_again_at = began + _EXPIRE_EVERY_S
        self._kept.free_room()
        now = time.monotonic()
        self._free_again_at = now + 20 * (now - began)

    def expire(self) -> None:
        """Hides and removes jobs whose time is over, batch by batch, so that a store that is away holds up the rest."""
        for _ in range(_BATCHES_A_ROUND):
            due = self._retention.expired(_BATCH)
            hidden = self._retention.hide(due) if due else 0
            self._steps.did("job-expired", hidden)
            if hidden:
                self.remove_hidden()
            if hidden < _BATCH or self._stop.is_set():
                return

    def remove_hidden(self) -> None:
        """Each hidden job is tried once, also behind those that the store does not give up."""
        last: Hidden | None = None
        while not self._stop.is_set():
            batch = self._retention.hidden(_BATCH, last)
            if not batch:
                return
            removed = self._removal.remove(batch)
            self._steps.did(
                "job-removed", removed.jobs, job_ids=[str(job.id) for job in batch[:20] if job.id not in removed.left]
            )
            self._steps.did("object-removed", removed.objects)
            self._steps.did("input-removed", removed.uploads)
            last = batch[-1]


def build_sweeper(
    settings: Settings,
    removal: Removal,
    database: Database,
    measures: Measures,
    leading: Callable[[], bool],
) -> Sweeper:
    retention, steps = removal.retention, Steps(measures)
    orphans = OrphanWalk(
        retention,
        removal.objects,
        steps,
        grace_s=settings.orphan_grace_s,
        every_s=settings.orphan_sweep_every_s,
    )
    return Sweeper(
        retention=retention,
        removal=removal,
        parts=PartStore(database, removal.objects),
        kept=KeptInputs(database),
        orphans=orphans,
        steps=steps,
        measures=measures,
        leading=leading,
    )
