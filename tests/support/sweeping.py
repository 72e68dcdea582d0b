"""A record and a bucket with jobs in every state, and the sweeper that is to tidy them up, without its thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from api.measures import Measures
from api.orphans import OrphanWalk
from api.removal import Removal
from api.steps import Steps
from api.sweeper import Sweeper
from fleet.contracts import Artifact, Job, JobState
from fleet.database import Database
from fleet.errors import CorruptInput, NotFound
from fleet.ids import new_id
from fleet.job_values import Claim, Ending
from fleet.jobs import JobStore
from fleet.kept_inputs import KeptInputs
from fleet.objects import ObjectStore, result_key, upload_key
from fleet.outbox import Outbox
from fleet.parts import PartStore
from fleet.retention import Retention
from fleet.settings import Settings
from fleet.uploads import UploadStore
from tests.support.fleet_of_one import new_job

NOTHING = Ending({}, None)
STORED = Ending({"store": 0.1}, None)
FATAL = CorruptInput("cut short")


@dataclass
class Sweeping:
    settings: Settings
    database: Database
    jobs: JobStore
    uploads: UploadStore
    objects: ObjectStore
    retention: Retention
    removal: Removal
    parts: PartStore
    sweeper: Sweeper
    measures: Measures
    steps: Steps

    def upload(self, name: str = "scan.nii", **changes: Any) -> UUID:
        """With its bytes."""
        upload_id = new_id()
        stored = self.objects.put_bytes(
            upload_key("default", upload_id, name), b"abc", media_type="text/plain", name=name
        )
        values: dict[str, Any] = {"ttl_s": 3600.0, "complete": True}
        self.uploads.create(upload_id, "default", stored, **(values | changes))
        return upload_id

    def submit(self, **changes: Any) -> Job:
        return self.jobs.submit(new_job(**changes)).job

    def claimed(self, job: Job | None = None, *, lease_s: float = 30.0, **changes: Any) -> Claim:
        claim = self.jobs.claim((job or self.submit(**changes)).id, "w", lease_s)
        assert claim is not None
        return claim

    def store(self, job: Job, *names: str) -> list[Artifact]:
        """As a worker does with its results, before the commit."""
        return [
            Artifact(
                name=name,
                object=self.objects.put_bytes(
                    result_key(job.id, job.attempt, name), b"mask", media_type="text/plain", name=name
                ),
            )
            for name in names
        ]

    def succeeded(self, *names: str, **changes: Any) -> Job:
        claim = self.claimed(**changes)
        return self.finish(claim, self.store(claim.job, *names))

    def finish(self, claim: Claim, artifacts: list[Artifact]) -> Job:
        done = self.jobs.finish(claim.job, result={"n": 1}, artifacts=artifacts, inputs=claim.job.inputs, ending=STORED)
        assert done is not None
        return done

    def failed(self, *leftovers: str, **changes: Any) -> Job:
        """`leftovers` are stored objects that its worker did not tidy up."""
        claim = self.claimed(**changes)
        self.store(claim.job, *leftovers)
        ended = self.jobs.fail(claim.job, FATAL, STORED if leftovers else NOTHING)
        assert ended is not None
        return ended

    def cancelled(self, **changes: Any) -> Job:
        return self.jobs.cancel(self.submit(**changes).id, "default")

    def expired(self, **changes: Any) -> Job:
        job = self.submit(deadline_s=0.0, **changes)
        (ended,) = [one for one in Outbox(self.database).expire_queued() if one.id == job.id]
        return ended

    def age(self, *jobs: Job) -> None:
        """As if their time were over."""
        self.database.run(
            "update job set expires_at = clock_timestamp() - interval '1 second' where id = any(%(ids)s)",
            {"ids": [job.id for job in jobs]},
        )

    def delete(self, job: Job) -> None:
        """Hides it, as a DELETE whose removal did not come to be."""
        self.retention.delete(job.id, "default")

    def sweep(self) -> None:
        """Both halves of a round; a failure is a test's failure."""
        self.sweeper.remove_hidden()
        self.sweeper.expire()

    def walk(self, *, grace_s: float = -60.0, **changes: Any) -> None:
        """A whole orphan walk. With a negative grace everything is old enough: the store counts whole seconds."""
        walk = OrphanWalk(self.retention, self.objects, self.steps, grace_s=grace_s, every_s=3600.0)
        walk.go_on(threading.Event(), changes.pop("budget_s", 60.0))

    def is_there(self, job: Job) -> bool:
        """Whether the row is, also when it is hidden."""
        try:
            self.jobs.get(job.id)
        except NotFound:
            return False
        return True

    def state(self, job: Job) -> JobState:
        return self.jobs.get(job.id).state

    def results(self, job: Job) -> list[str]:
        """`attempt/name` of the stored objects of a job."""
        return [key.split("/", 2)[2] for key in self.objects.keys(f"results/{job.id}/")]

    def uploaded(self) -> set[UUID]:
        """The uploads whose bytes are there."""
        return {UUID(key.split("/")[2]) for key in self.objects.keys("uploads/")}

    def rows(self, table: str) -> int:
        (row,) = self.database.run(f"select count(*) as n from {table}")
        return int(row["n"])

    def did(self, action: str) -> float:
        return self.measures.registry.get_sample_value("fleet_reconciler_actions_total", {"action": action}) or 0.0


@contextmanager
def sweeping_of(settings: Settings, objects: ObjectStore | None = None) -> Iterator[Sweeping]:
    """`objects` may be a store that is reached in another way than the settings say."""
    with Database(settings.database_dsn) as database:
        store, measures = objects or ObjectStore(settings), Measures()
        steps, retention = Steps(measures), Retention(database)
        removal, parts = Removal(retention, store), PartStore(database, store)
        sweeper = Sweeper(
            retention=retention,
            removal=removal,
            parts=parts,
            kept=KeptInputs(database),
            orphans=OrphanWalk(retention, store, steps, grace_s=3600.0, every_s=0.0),
            steps=steps,
            measures=measures,
            leading=lambda: True,
        )
        yield Sweeping(
            settings,
            database,
            JobStore(database),
            UploadStore(database),
            store,
            retention,
            removal,
            parts,
            sweeper,
            measures,
            steps,
        )
