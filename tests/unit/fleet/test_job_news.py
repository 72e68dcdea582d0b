"""What a worker tells of a job's end is believed only by who waits for that job, and only if it is news."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.contracts import Artifact, InlineInput, Job, JobInput, JobState, ObjectRef
from fleet.ids import new_id
from fleet.job_news import MAX_NEWS_BYTES, as_told, news_of
from tests.support.ended_job import ended


def waited_for(job: Job, **changes: Any) -> Job:
    """The job as it was when it was submitted."""
    before: dict[str, Any] = {"state": JobState.QUEUED, "timings": {}, "result": None, "artifacts": [], "revision": 0}
    return job.model_copy(update=before | changes)


def over(**changes: Any) -> Job:
    return ended(0.25).model_copy(update={"params": {"input": ["a text"]}, "revision": 2, **changes})


def test_the_job_is_told_as_it_was_committed() -> None:
    reference = ObjectRef(bucket="fleet", key="results/mask", size=3)
    job = over(result={"count": 1, "numbers": [0.1, 1e-9]}, artifacts=[Artifact(name="mask", object=reference)])
    assert as_told(waited_for(job), news_of(job)) == job


def test_its_params_are_not_sent() -> None:
    assert b"a text" not in news_of(over())


@pytest.mark.parametrize("field", ["result", "inputs"])
def test_what_is_large_is_left_to_the_record(field: str) -> None:
    inline = JobInput(inline=InlineInput(data="AAAA"))
    large = {"result": {"text": "x" * MAX_NEWS_BYTES}, "inputs": [inline]}
    assert news_of(over(**{field: large[field]})) == b""


@pytest.mark.parametrize(
    ("waiting", "told"),
    [
        ({"id": new_id()}, {}),
        # It was queued again by hand, and this is the end before that.
        ({"revision": 3}, {}),
        ({"revision": 2}, {}),
        ({}, {"state": JobState.RUNNING}),
        ({}, {"deleted_at": datetime(2026, 1, 1, tzinfo=UTC)}),
    ],
    ids=["of another job", "older than what is known", "known already", "not of an end", "of a deleted job"],
)
def test_what_is_no_news_of_its_end_is_not_believed(waiting: dict[str, Any], told: dict[str, Any]) -> None:
    job = over()
    assert as_told(waited_for(job, **waiting), news_of(job.model_copy(update=told))) is None


@pytest.mark.parametrize("news", [b"", b"{", b"[]", b'{"id": 1}', b"\xff"])
def test_what_cannot_be_read_is_not_believed(news: bytes) -> None:
    assert as_told(waited_for(over()), news) is None
