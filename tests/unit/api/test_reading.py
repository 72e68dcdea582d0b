"""Reads of jobs are joined: who asks during a statement is answered by the next one, and by none before."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest

from api.reading import Reader
from fleet.contracts import Job
from fleet.errors import DependencyError, NotFound
from tests.support.ended_job import ended


class Record:
    """Holds each statement until it is let go."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.asked: list[list[UUID]] = []
        self.fault: Exception | None = None
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def read(self, ids: Sequence[UUID]) -> Mapping[UUID, Job]:
        self.asked.append(list(ids))
        self.begun.set()
        assert self.let_go.wait(10)
        if self.fault is not None:
            raise self.fault
        return {job_id: self.jobs[job_id] for job_id in ids if job_id in self.jobs}


async def during_a_statement(record: Record, reader: Reader, first: UUID, *later: UUID) -> list[Any]:
    """What `first` is answered and those that are asked for while its statement runs, or what is raised."""
    running = [asyncio.create_task(reader.job(first))]
    await asyncio.to_thread(record.begun.wait, 10)
    running += [asyncio.create_task(reader.job(job_id)) for job_id in later]
    await asyncio.sleep(0)
    record.let_go.set()
    return await asyncio.gather(*running, return_exceptions=True)


def test_who_asks_during_a_statement_is_answered_by_the_next() -> None:
    jobs = [ended(0.1) for _ in range(4)]
    record = Record(*jobs)
    first, *later = [job.id for job in jobs]
    answers = asyncio.run(during_a_statement(record, Reader(record.read), first, *later))
    assert answers == jobs
    assert record.asked == [[first], later]


def test_the_same_job_is_read_anew_for_who_asks_during_its_statement() -> None:
    job = ended(0.1)
    record = Record(job)
    assert asyncio.run(during_a_statement(record, Reader(record.read), job.id, job.id)) == [job, job]
    assert record.asked == [[job.id], [job.id]]


def test_a_deleted_job_is_missed_by_its_own_asker_alone() -> None:
    job, gone = ended(0.1), ended(0.1)
    record = Record(job)
    there, missing = asyncio.run(during_a_statement(record, Reader(record.read), job.id, gone.id))
    assert there == job
    assert isinstance(missing, NotFound)
    assert missing.code == "job-not-found"


def test_a_record_that_is_away_is_told_to_all_and_asked_again_by_the_next() -> None:
    job = ended(0.1)
    record = Record(job)
    reader = Reader(record.read)

    async def scene() -> Job:
        record.fault = DependencyError("away", code="database-unavailable")
        told = await during_a_statement(record, reader, job.id, job.id)
        assert told == [record.fault, record.fault]
        record.fault = None
        return await reader.job(job.id)

    assert asyncio.run(scene()) == job


def test_who_gives_up_takes_nobody_with_him() -> None:
    job, other = ended(0.1), ended(0.1)
    record = Record(job, other)
    reader = Reader(record.read)

    async def scene() -> Job:
        leaving = asyncio.create_task(reader.job(job.id))
        await asyncio.to_thread(record.begun.wait, 10)
        staying = asyncio.create_task(reader.job(other.id))
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        record.let_go.set()
        return await staying

    assert asyncio.run(scene()) == other
