"""What is asked of the record: verbs of the hot path, ways to list jobs, steps of the reconciler and the sweeper."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from big_record.timing import TimedDatabase
from fleet.contracts import Job, Lane, Pool, Priority, RanOn, ShownState
from fleet.errors import CorruptInput, DependencyError
from fleet.ids import new_id
from fleet.job_values import Ending, JobFilter, NewJob, Token
from fleet.jobs import JobStore
from fleet.outbox import Outbox
from fleet.queues import queues
from fleet.retention import Retention

TENANT = "tenant-0"
#: Jobs on a page, so few that each filter finds as many in the small record.
PAGE = 20
_QUEUES = queues(Pool, Lane)
_ENDING = Ending({"infer": 0.1}, RanOn(worker="w", pool=Pool.CPU, device="CPU", provider="CPU"))


class World:
    """One record, and what is known of it."""

    def __init__(self, database: TimedDatabase) -> None:
        self.database = database
        self.store, self.outbox, self.retention = JobStore(database), Outbox(database), Retention(database)
        third = f"{_FIND_MIDDLE} OFFSET (SELECT count(*) / 3 FROM ({_FIND_MIDDLE}) AS all_of_them) LIMIT 1"
        (middle,) = database.run(third, {"tenant": TENANT})
        self.middle: UUID = middle["id"]
        self.middle_at = middle["created_at"]
        self.study: str = middle["labels"]["study"]
        (self.key,) = database.run("SELECT tenant, key, fingerprint FROM idempotency LIMIT 1")
        self.ids = [row["id"] for row in database.run("SELECT id FROM job WHERE state = 'succeeded' LIMIT 20")]
        self.held: list[Token] = [(job.id, job.attempt) for job in (self.claimed() for _ in range(8))]

    def new(self, **changes: Any) -> NewJob:
        """In a queue of its own, so that what is claimed here overtakes nobody."""
        values: dict[str, Any] = {
            "id": new_id(),
            "tenant": TENANT,
            "task": "task-0",
            "model": "model-0",
            "version": 1,
            "lane": Lane.INTERACTIVE,
            "priority": Priority.NORMAL,
            "pool": Pool.GPU,
            "route_reason": "",
            "params": {"threshold": 0.5},
            "inputs": [],
            "labels": {},
            "max_attempts": 3,
            "deadline_s": 86400.0,
            "execution_timeout_s": 3600.0,
            "retention_s": 7776000.0,
            "uploads": [],
        }
        return NewJob(**(values | changes))

    def submitted(self, **changes: Any) -> Job:
        return self.store.submit(self.new(**changes)).job

    def claimed(self) -> Job:
        claim = self.store.claim(self.submitted().id, "bench", 3600.0, 1)
        assert claim is not None
        return claim.job

    def finished(self, job: Job) -> Job | None:
        return self.store.finish(job, result={"a": 1}, artifacts=[], inputs=[], ending=_ENDING)

    def hidden(self) -> UUID:
        job = self.claimed()
        self.finished(job)
        self.retention.delete(job.id, TENANT)
        return job.id

    def page(self, before: UUID | None = None, **where: Any) -> Sequence[Job]:
        return self.store.page(TENANT, JobFilter(**where), limit=PAGE, before=before)


_FIND_MIDDLE = """SELECT id, created_at, labels FROM job
                   WHERE tenant = %(tenant)s AND state = 'succeeded' AND labels <> '{}'"""


@dataclass(frozen=True)
class Case:
    """`run` is timed with what `prepare` made; it may do something else to the record each time."""

    name: str
    run: Callable[[World, Any], object]
    prepare: Callable[[World], Any] = lambda _: None


HOT_PATH = [
    Case("submit", lambda w, new: w.store.submit(new), lambda w: w.new()),
    Case(
        "submit with a key and four labels",
        lambda w, new: w.store.submit(new),
        lambda w: w.new(idempotency_key=str(new_id()), labels={name: name for name in "abcd"}),
    ),
    Case("claim", lambda w, job: w.store.claim(job.id, "bench", 30.0, 1), lambda w: w.submitted()),
    Case("renew 8 leases", lambda w, _: w.store.renew(w.held, 3600.0)),
    Case("watch 8 leases", lambda w, _: w.store.watch(w.held)),
    Case(
        "note progress",
        lambda w, at: w.store.note_progress([(*w.held[0], "infer", at)]),
        lambda _: new_id().int % 997 / 997,
    ),
    Case("finish", lambda w, job: w.finished(job), lambda w: w.claimed()),
    Case("fail, retryable", lambda w, job: w.store.fail(job, DependencyError("away"), _ENDING), lambda w: w.claimed()),
    Case("fail, fatal", lambda w, job: w.store.fail(job, CorruptInput("cut"), _ENDING), lambda w: w.claimed()),
    Case("cancel", lambda w, job: w.store.cancel(job.id, TENANT), lambda w: w.submitted()),
]
LOOKS = [
    Case("get", lambda w, _: w.store.get(w.ids[0], None)),
    Case("find by key", lambda w, _: w.store.find_by_key(w.key["tenant"], w.key["key"], w.key["fingerprint"])),
    Case("standings of 20", lambda w, _: w.store.standings(w.ids)),
]
LISTS = [
    Case("all", lambda w, _: w.page()),
    Case("all, deep page", lambda w, _: w.page(w.middle)),
    *(Case(f"state {state}", lambda w, _, state=state: w.page(state=state)) for state in ShownState),  # type: ignore[misc]
    Case("state expired, deep page", lambda w, _: w.page(w.middle, state=ShownState.EXPIRED)),
    Case("common model", lambda w, _: w.page(model="model-0")),
    Case("rare model", lambda w, _: w.page(model="rare")),
    Case("model that nobody uses", lambda w, _: w.page(model="none")),
    Case("common task", lambda w, _: w.page(task="task-0")),
    Case("rare task", lambda w, _: w.page(task="task-rare")),
    Case("usual priority", lambda w, _: w.page(priority=Priority.NORMAL)),
    Case("rare priority", lambda w, _: w.page(priority=Priority.URGENT)),
    Case("common label", lambda w, _: w.page(labels={"site": "a"})),
    Case("rare label", lambda w, _: w.page(labels={"study": w.study})),
    Case("both labels", lambda w, _: w.page(labels={"site": "a", "study": w.study})),
    Case("before a moment", lambda w, _: w.page(created_before=w.middle_at)),
    Case(
        "within an hour",
        lambda w, _: w.page(created_before=w.middle_at, created_after=w.middle_at - timedelta(hours=1)),
    ),
    Case("rare model, failed", lambda w, _: w.page(model="rare", state=ShownState.FAILED)),
    Case("common model, expired", lambda w, _: w.page(model="model-0", state=ShownState.EXPIRED)),
    Case(
        "common model, task, label, failed",
        lambda w, _: w.page(model="model-0", task="task-0", labels={"site": "a"}, state=ShownState.FAILED),
    ),
    Case("label that is never expired", lambda w, _: w.page(labels={"study": w.study}, state=ShownState.EXPIRED)),
]
RECONCILER = [
    Case("lapse_leases, none", lambda w, _: w.outbox.lapse_leases()),
    Case("expire_queued, none", lambda w, _: w.outbox.expire_queued()),
    Case("due_pairs, none", lambda w, _: w.outbox.due()),
    Case(
        "due_pairs and take_due, one",
        lambda w, _: w.outbox.take(dict.fromkeys(w.outbox.due(), 500)),
        lambda w: w.submitted(published=False),
    ),
    Case("overdue_queues", lambda w, _: w.outbox.overdue_queues(_QUEUES, 5.0)),
    Case("overdue_queues, none", lambda w, _: w.outbox.overdue_queues(_QUEUES, 1e8)),
    Case(
        "forget_overtaken, none",
        lambda w, _: w.outbox.forget_overtaken("gpu.bulk.normal", empty=False, grace_s=5.0, limit=500),
    ),
    Case("waiting_queues", lambda w, _: w.outbox.waiting(_QUEUES)),
    Case("expired_jobs, 200", lambda w, _: w.retention.expired(200)),
    Case("forget_jobs, one", lambda w, job_id: w.retention.forget([job_id], []), lambda w: w.hidden()),
]
GROUPS = {
    "the hot path": HOT_PATH,
    "looks": LOOKS,
    f"lists, {PAGE} jobs a page": LISTS,
    "reconciler and sweeper": RECONCILER,
}
