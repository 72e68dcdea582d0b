"""The soak's own judgement: it finds nothing where nothing is wrong, and it is able to condemn."""

import sys
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from fleet.contracts import Artifact
from fleet.job_values import Ending
from fleet.jobs import JobStore
from fleet.objects import ObjectStore, result_key
from fleet.settings import Settings
from tests.support import witness
from tests.support.fleet_of_one import ROOT, job_store, new_job

sys.path.append(str(ROOT / "benchmarks"))
from soak.injector import Hit
from soak.judge import Verdict, judge
from soak.ledger import Ledger
from soak.plan import FaultKind, JobKind, PlannedJob, plan_faults, plan_jobs
from soak.recovery import recoveries
from soak.sweep import orphans, sweep

PLAN = PlannedJob(
    number=7, at_s=0.0, kind=JobKind.ECHO, priority="normal", seed=11, by_client=False, uploaded=False, repeated=False,
    wait_s=0, cancel_after_s=None, deadline_s=None,
)  # fmt: skip
RIGHT = {"values": [7.0, 11.0, 0.5]}


class Court:
    """One accepted job, and what happens to it."""

    def __init__(self, settings: Settings, jobs: JobStore) -> None:
        witness.install(settings.database_dsn)
        self.settings = settings
        self.jobs = jobs
        self.id = self.submit()
        self.ledger = Ledger()
        self.ledger.accept(PLAN, str(self.id))

    def submit(self) -> UUID:
        return self.jobs.submit(new_job(labels={"soak": PLAN.key})).job.id

    def finish(self, result: dict[str, list[float]], artifacts: list[Artifact] | None = None) -> None:
        claim = self.jobs.claim(self.id, "w", 30.0)
        assert claim is not None
        ending = Ending({}, None)
        assert self.jobs.finish(claim.job, result=result, artifacts=artifacts or [], inputs=[], ending=ending)

    def meddle(self, statement: str) -> None:
        with psycopg.connect(self.settings.database_dsn, autocommit=True) as connection:
            connection.execute(statement.encode(), {"id": self.id})

    def verdict(self) -> Verdict:
        return judge(self.settings, self.ledger, witness.changes(self.settings.database_dsn))


@pytest.fixture
def court(settings: Settings) -> Iterator[Court]:
    with job_store(settings) as jobs:
        yield Court(settings, jobs)


def test_the_soak_finds_nothing_wrong_with_what_is_right(court: Court) -> None:
    court.finish(RIGHT)
    verdict = court.verdict()
    assert verdict.kept
    assert verdict.states == {"succeeded": 1}


def test_the_soak_calls_a_job_that_has_not_ended_or_is_not_there_lost(court: Court) -> None:
    assert len(court.verdict().lost) == 1
    court.meddle("delete from job where id = %(id)s")
    assert "deleted" in "".join(court.verdict().lost)


def test_the_soak_finds_a_second_commit(court: Court) -> None:
    court.finish(RIGHT)
    court.meddle("update job set result = result, timings = '{\"infer\": 1}' where id = %(id)s")
    assert "changed after it was succeeded" in "".join(court.verdict().doubled)


def test_the_soak_finds_a_job_that_ended_twice(court: Court) -> None:
    court.finish(RIGHT)
    court.meddle("update job set state = 'queued', finished_at = null where id = %(id)s")
    court.finish(RIGHT)
    assert f"{court.id}: ended 2 times" in court.verdict().doubled


def test_the_soak_finds_two_jobs_of_one_key(court: Court) -> None:
    court.finish(RIGHT)
    court.submit()
    assert court.verdict().doubled == [f"{PLAN.key}: 2 jobs"]


def test_the_soak_finds_a_wrong_result(court: Court) -> None:
    court.finish({"values": [7.0, 12.0, 0.5]})
    assert len(court.verdict().wrong) == 1


def test_the_soak_counts_objects_that_no_job_refers_to_and_the_walk_removes_them(court: Court) -> None:
    objects = ObjectStore(court.settings)
    nobodys, mine = (result_key(court.id, attempt, "a") for attempt in (1, 2))
    assert court.jobs.claim(court.id, "somebody who is lost", 0.0)
    stored = objects.put_bytes(mine, b"a", media_type="text/plain", name="a")
    objects.put_bytes(nobodys, b"a", media_type="text/plain", name="a")
    court.finish(RIGHT, [Artifact(name="a", object=stored)])
    assert orphans(court.settings) == [nobodys]
    sweep(court.settings)
    assert orphans(court.settings) == []
    assert court.verdict().kept


def test_the_soak_measures_recovery_from_the_fault_to_the_next_claim(court: Court) -> None:
    assert court.jobs.claim(court.id, "w", 0.0)
    claimed_at = witness.changes(court.settings.database_dsn)[0].at.timestamp()
    court.finish(RIGHT)
    again_at = witness.changes(court.settings.database_dsn)[1].at.timestamp()
    hits = [
        Hit(0, FaultKind.WORKER_KILL, claimed_at, 0.0, ("w",)),
        Hit(1, FaultKind.WORKER_KILL, again_at, 0.0, ("x",)),
    ]
    (recovery,) = recoveries(witness.changes(court.settings.database_dsn), hits, {court.id: "a queue"})
    assert recovery.fault == "worker SIGKILL"
    assert recovery.seconds == pytest.approx(again_at - claimed_at)


def test_a_soak_is_its_seed() -> None:
    jobs = [plan_jobs(seed, short=50, long=5, duration_s=60.0) for seed in (1, 1, 2)]
    faults = [plan_faults(seed, workers=3, duration_s=600.0) for seed in (1, 1, 2)]
    assert jobs[0] == jobs[1] != jobs[2]
    assert faults[0] == faults[1] != faults[2]
    assert len({fault.kind for fault in faults[0]}) > 15
