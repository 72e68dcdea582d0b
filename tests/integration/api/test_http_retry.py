"""POST /api/v1/jobs/{id}/retry: the same job once more, by hand."""

from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from fleet.contracts import JobState
from fleet.errors import CorruptInput
from fleet.job_values import Ending
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door
from tests.support.waiting import eventually


def failed(door: Door, **body: Any) -> str:
    job = door.accepted(**body)
    claim = door.core.jobs.claim(door.id(job["id"]), "w", 30.0)
    assert claim is not None
    assert door.core.jobs.fail(claim.job, CorruptInput("cut short"), Ending({}, None))
    return str(job["id"])


def cancelled(door: Door) -> str:
    job_id = str(door.accepted()["id"])
    assert door.http.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 200
    return job_id


def expired(door: Door) -> str:
    job_id = str(door.accepted(deadline_s=0.001)["id"])

    def has_expired() -> bool:
        door.core.reconciler.tick()
        return door.core.jobs.get(door.id(job_id)).state is JobState.EXPIRED

    eventually(has_expired)
    return job_id


def retry(door: Door, job_id: str, **body: Any) -> httpx.Response:
    return door.http.post(f"/api/v1/jobs/{job_id}/retry", json=body or None)


@pytest.mark.parametrize("end", [failed, cancelled, expired])
def test_a_job_that_ended_without_success_is_queued_again_and_succeeds(door: Door, end: Any) -> None:
    job_id = end(door)
    answer = retry(door, job_id, deadline_s=60)
    assert (answer.status_code, answer.headers["location"]) == (202, f"/api/v1/jobs/{job_id}")
    job = answer.json()
    assert (job["id"], job["state"], job["retries"]) == (job_id, "queued", 1)
    assert job["error"] is job["expires_at"] is job["finished_at"] is None
    assert [note["outcome"] for note in job["history"]][-1] == "retried"
    door.run(job_id)
    assert door.http.get(f"/api/v1/jobs/{job_id}").json()["state"] == "succeeded"


def test_a_retry_is_published_at_once(door: Door) -> None:
    job_id = failed(door)
    queue = door.http.get(f"/api/v1/jobs/{job_id}").json()["queue"]
    before = door.core.broker.depths([queue])[queue]
    assert retry(door, job_id).status_code == 202
    assert door.core.broker.depths([queue])[queue] == before + 1


def test_without_the_broker_a_retry_is_accepted_and_left_to_the_reconciler(settings: Settings) -> None:
    with front_door(settings, redis_url=SecretStr("redis://127.0.0.1:1/0")) as door:
        door.announce(card())
        job_id = failed(door)
        assert retry(door, job_id).status_code == 202
        (row,) = door.core.database.run("select state, published_at from job")
        assert (row["state"], row["published_at"]) == ("queued", None)


@pytest.mark.parametrize("body", [{"deadline_s": 60}, {"deadline_s": None}])
def test_a_retry_may_have_a_deadline_of_its_own(door: Door, body: dict[str, Any]) -> None:
    job_id = failed(door, deadline_s=3600)
    job = retry(door, job_id, **body).json()
    (row,) = door.core.database.run("select deadline_s from job")
    assert row["deadline_s"] == (body["deadline_s"] or 3600)
    assert job["deadline"] is not None


def test_the_body_may_be_empty_or_json_and_nothing_else(door: Door) -> None:
    job_id = failed(door)
    path = f"/api/v1/jobs/{job_id}/retry"
    wrong: dict[int, dict[str, Any]] = {
        415: {"content": b"deadline_s=3", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        400: {"content": b"{", "headers": {"content-type": "application/json"}},
        422: {"json": {"deadline": 3}},
    }
    for status, request in wrong.items():
        assert door.http.post(path, **request).status_code == status
    refused: list[Any] = [{"deadline_s": 0}, {"deadline_s": 31 * 86400}, []]
    for body in refused:
        assert door.http.post(path, json=body).status_code == 422
    assert door.core.jobs.get(door.id(job_id)).state is JobState.FAILED
    assert door.http.post(path, json=None, headers={"content-type": "application/json"}).status_code == 202


@pytest.mark.parametrize("content", [b"null", b"{}", b""])
def test_a_body_that_says_nothing_is_none(door: Door, content: bytes) -> None:
    answer = door.http.post(
        f"/api/v1/jobs/{failed(door)}/retry", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 202, answer.text


def test_what_has_not_ended_or_has_succeeded_is_not_retried(door: Door) -> None:
    queued = door.accepted()["id"]
    running = door.accepted()["id"]
    assert door.core.jobs.claim(door.id(running), "w", 30.0)
    succeeded = door.accepted()["id"]
    door.run(succeeded)
    for job_id, code in ((queued, "job-not-ended"), (running, "job-not-ended"), (succeeded, "job-succeeded")):
        answer = retry(door, job_id)
        assert (answer.status_code, answer.json()["code"]) == (409, code)


def test_a_submit_still_needs_a_body(door: Door) -> None:
    assert door.http.post("/api/v1/jobs").status_code == 415
