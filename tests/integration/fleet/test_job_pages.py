"""Lists of jobs: each combination of filters finds what it says, page by page, and by an index."""

import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from random import Random
from typing import Any
from uuid import UUID

import pytest
from psycopg.errors import Diagnostic

from fleet.contracts import Priority, ShownState
from fleet.database import Database
from fleet.errors import CorruptInput
from fleet.job_pages import words_of
from fleet.job_values import Ending, JobFilter
from fleet.jobs import JobStore
from fleet.retention import Retention
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job

NOTHING = Ending({}, None)
MODELS = {"brain": "segmentation", "lung": "segmentation", "words": "text-embedding"}


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn, max_connections=1) as opened:
        yield opened


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


def several(jobs: JobStore, count: int = 120) -> list[dict[str, Any]]:
    """Jobs of all kinds of two tenants; their rows, newest first."""
    random = Random(7)
    for _ in range(count):
        model = random.choice(list(MODELS))
        job = jobs.submit(
            new_job(
                tenant=random.choice(["a", "a", "b"]),
                model=model,
                task=MODELS[model],
                priority=random.choice([Priority.NORMAL, Priority.NORMAL, Priority.URGENT, Priority.LOW]),
                labels={name: random.choice("xy") for name in random.choice(["", "s", "st"])},
            )
        ).job
        match random.randrange(6):
            case 0:
                claimed(jobs, job.id)
            case 1:
                claimed(jobs, job.id)
                jobs.cancel(job.id, job.tenant)
            case 2:
                jobs.finish(claimed(jobs, job.id), result={}, artifacts=[], inputs=[], ending=NOTHING)
            case 3:
                jobs.fail(claimed(jobs, job.id), CorruptInput("cut short"), NOTHING)
            case 4:
                jobs.cancel(job.id, job.tenant)
    return jobs._database.run("select * from job order by id desc")


def claimed(jobs: JobStore, job_id: UUID) -> Any:
    claim = jobs.claim(job_id, "w", 60.0)
    assert claim is not None
    return claim.job


def fits(row: dict[str, Any], where: JobFilter) -> bool:
    """The filters once more, in plain Python."""
    shown = "cancelling" if row["state"] == "running" and row["cancel_requested"] else row["state"]
    return (
        (where.state is None or where.state.value == shown)
        and where.model in (None, row["model"])
        and where.task in (None, row["task"])
        and where.priority in (None, row["priority"])
        and (where.labels or {}).items() <= row["labels"].items()
        and (where.created_after is None or row["created_at"] >= where.created_after)
        and (where.created_before is None or row["created_at"] < where.created_before)
    )


def all_pages(jobs: JobStore, where: JobFilter, limit: int) -> list[UUID]:
    found: list[UUID] = []
    while page := jobs.page("a", where, limit=limit, before=found[-1] if found else None):
        assert len(page) <= limit
        found += [job.id for job in page]
    return found


def test_every_combination_of_filters_finds_the_jobs_that_fit_newest_first(jobs: JobStore) -> None:
    rows = several(jobs)
    middle = rows[len(rows) // 2]["created_at"]
    labels: list[dict[str, str] | None] = [None, {"s": "x"}, {"s": "x", "t": "y"}, {"s": "nowhere"}]
    times = [(None, None), (middle, None), (None, middle), (middle - timedelta(seconds=0.1), middle)]
    combinations = product(
        [None, *ShownState],
        [None, "brain", "nobody's"],
        [None, "segmentation"],
        [None, Priority.NORMAL, Priority.URGENT],
        labels,
        times,
    )
    # Enough of them to have met every pair.
    for state, model, task, priority, label, (after, before) in Random(3).sample(list(combinations), 300):
        where = JobFilter(state, model, task, priority, label, after, before)
        expected = [row["id"] for row in rows if row["tenant"] == "a" and fits(row, where)]
        assert all_pages(jobs, where, limit=7) == expected, where


def test_a_clock_that_differs_by_minutes_hides_no_job(jobs: JobStore) -> None:
    job = jobs.submit(new_job(tenant="a")).job
    for minutes in (-4, 4):
        at = job.created_at + timedelta(minutes=minutes)
        jobs._database.run("update job set created_at = %(at)s", {"at": at})
        where = JobFilter(created_after=at, created_before=at + timedelta(seconds=1))
        assert [found.id for found in jobs.page("a", where, limit=2)] == [job.id]


def test_a_deleted_job_is_in_no_list(jobs: JobStore) -> None:
    job = jobs.submit(new_job(tenant="a", labels={"s": "x"})).job
    Retention(jobs._database).delete(job.id, "a")
    wheres = [JobFilter(), JobFilter(model="echo"), JobFilter(labels={"s": "x"}), JobFilter(state=ShownState.CANCELLED)]
    for where in wheres:
        assert jobs.page("a", where, limit=2) == []


def test_the_words_of_a_job_are_those_that_the_database_would_forget(jobs: JobStore) -> None:
    several(jobs, 40)
    jobs.submit(new_job(labels={"long": "ü" * 400, "with:colon": "a"}))
    for row in jobs._database.run(
        "select task, model, priority, labels, job_words(task, model, priority, labels) as theirs,"
        " array(select word from job_word where tenant = job.tenant and job_id = id) as written from job"
    ):
        ours = words_of(row["task"], row["model"], Priority(row["priority"]), row["labels"])
        assert sorted(ours) == sorted(row["theirs"]) == sorted(row["written"])


def test_a_job_that_is_gone_leaves_no_words(jobs: JobStore) -> None:
    kept, *gone = (jobs.submit(new_job(labels={"s": "x"})).job.id for _ in range(3))
    jobs._database.run("delete from job where id = any(%(ids)s)", {"ids": gone})
    assert {row["job_id"] for row in jobs._database.run("select job_id from job_word")} == {kept}


def test_a_submit_that_was_refused_leaves_no_words(jobs: JobStore) -> None:
    jobs.submit(new_job(idempotency_key="k", fingerprint="f"))
    jobs.submit(new_job(idempotency_key="k", fingerprint="f", model="other"))
    assert jobs._database.run("select from job_word where word = 'model:other'") == []


def plans(database: Database, noted: list[str]) -> None:
    """From here on the plan of every statement is noted, as it was really run."""

    def note(message: Diagnostic) -> None:
        noted.append(message.message_primary or "")

    with database._pool.connection() as connection:
        connection.add_notice_handler(note)
    settings = {"client_min_messages": "log", "auto_explain.log_analyze": "on", "auto_explain.log_min_duration": "0"}
    for name, value in settings.items():
        database.run(f"set {name} = {value}")


def test_no_list_reads_more_than_its_index_leads_it_to(jobs: JobStore) -> None:
    """One tenant among many, whose jobs lie far behind those of all others: no plan may go through theirs."""
    database = jobs._database
    for number in range(30):
        jobs.submit(new_job(tenant="a", model="rare" if number % 10 == 0 else "echo", labels={"n": str(number % 3)}))
    database.run(
        "insert into job (id, tenant, task, model, version, lane, priority, pool, queue, max_attempts,"
        " execution_timeout_s, deadline_s) select ('f' || substr(gen_random_uuid()::text, 2))::uuid, 't' || n / 400,"
        " 'echo', 'echo', 1, 'bulk', 2, 'cpu', 'q', 3, 1, 1 from generate_series(1, 20000) as n"
    )
    database.run(
        "insert into job_word select tenant, unnest(array['task:echo', 'model:echo']), id from job where tenant <> 'a'"
    )
    for statement in ("analyze", "load 'auto_explain'"):
        database.run(statement)
    wheres = [
        JobFilter(),
        JobFilter(state=ShownState.QUEUED),
        JobFilter(state=ShownState.EXPIRED),
        JobFilter(model="rare"),
        JobFilter(task="echo", state=ShownState.QUEUED),
        JobFilter(labels={"n": "1"}, model="rare"),
        JobFilter(priority=Priority.NORMAL),
    ]
    noted: list[str] = []
    plans(database, noted)
    # Prepared from the sixth time on, and then without a look at the values.
    for where in wheres * 12:
        jobs.page("a", where, limit=5)
    assert len(noted) > len(wheres) * 12
    read = [max(map(float, re.findall(r"rows=([\d.]+) loops", plan)), default=0.0) for plan in noted]
    assert max(read) <= 60
    assert not [plan for plan in noted if "Seq Scan on job" in plan]
