"""From a message to a lease on the real record: when answers get lost, and when others are quicker."""

import threading
from collections.abc import Callable, Iterator
from contextlib import _GeneratorContextManager
from typing import Any

import pytest

from fleet.contracts import Job
from fleet.database import Database
from fleet.errors import DependencyError
from fleet.job_values import Claim
from fleet.jobs import JobStore
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job
from tests.support.waiting import eventually
from worker.claims import Claims
from worker.leases import LeaseKeeper
from worker.measures import Measures
from worker.permits import Permits


class FirstAnswerLost(JobStore):
    """The record does what it is told, and goes away before it can say so."""

    lost = False

    def claim(self, *arguments: Any, **more: Any) -> Claim | None:
        claim = super().claim(*arguments, **more)
        if not self.lost:
            self.lost = True
            raise DependencyError("the record went away", code="database-unavailable")
        return claim


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


def claims_on(jobs: JobStore, permits: Permits) -> Claims:
    leases = LeaseKeeper(jobs, 30.0, stop_patience_s=30.0)
    return Claims(jobs, leases, permits, Measures(), worker="w1", lease_s=30.0)


def test_a_claim_that_was_won_unheard_is_the_same_claim_when_the_record_is_back(database: Database) -> None:
    jobs = FirstAnswerLost(database)
    job = jobs.submit(new_job(max_attempts=1)).job
    with claims_on(jobs, Permits()).taken(job.id, job.publish_seq) as held:
        assert held is not None
        assert (held.job.attempt, held.job.losses) == (1, 0)


def suspect(jobs: JobStore, database: Database) -> Job:
    job = jobs.submit(new_job(max_attempts=2)).job
    assert jobs.claim(job.id, "killed", 0.0)
    assert jobs.runs_alone(job.id)
    return job


class Overheard(Permits):
    """Tells when somebody asks to be alone."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def alone(self, given_up: Callable[[], bool]) -> _GeneratorContextManager[bool]:
        self.asked.set()
        return super().alone(given_up)


@pytest.mark.parametrize("ended", [False, True], ids=["another worker has it", "it was cancelled"])
def test_whoever_waits_to_run_a_suspect_alone_lets_newcomers_in_once_it_is_gone(
    database: Database, ended: bool
) -> None:
    jobs, permits = JobStore(database), Overheard()
    claims = claims_on(jobs, permits)
    long, newcomer = jobs.submit(new_job()).job, jobs.submit(new_job()).job
    suspected = suspect(jobs, database)
    got: list[bool] = []

    def take() -> None:
        with claims.taken(suspected.id, suspected.publish_seq) as held:
            got.append(held is not None)

    with claims.taken(long.id, long.publish_seq) as running:
        assert running is not None
        waiting = threading.Thread(target=take, daemon=True)
        waiting.start()
        assert permits.asked.wait(30)
        assert got == [], "somebody runs here"
        if ended:
            jobs.cancel(suspected.id, "default")
        else:
            assert jobs.claim(suspected.id, "another", 30.0, alone=True) is not None
        eventually(lambda: got == [False], within_s=15)
        with claims.taken(newcomer.id, newcomer.publish_seq) as held:
            assert held is not None
    waiting.join()
