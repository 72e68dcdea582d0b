"""POST /api/v1/jobs/{id}/cancel."""

from fleet.contracts import JobState
from fleet.job_values import Ending
from tests.support.front_door import Door


def test_a_queued_job_is_cancelled_at_once_and_never_runs(door: Door) -> None:
    job = door.accepted()["id"]
    answer = door.http.post(f"/api/v1/jobs/{job}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert door.core.jobs.claim(door.id(job), "w", 30.0) is None


def test_a_running_job_is_cancelling_until_its_worker_has_stopped(door: Door) -> None:
    job = door.accepted()["id"]
    claim = door.core.jobs.claim(door.id(job), "w", 30.0)
    assert claim is not None
    for _ in range(2):
        answer = door.http.post(f"/api/v1/jobs/{job}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    door.core.jobs.stop(claim.job, JobState.CANCELLED, None, Ending({}, None))
    assert door.http.get(f"/api/v1/jobs/{job}").json()["state"] == "cancelled"


def test_cancelling_twice_is_no_fault(door: Door) -> None:
    job = door.accepted()["id"]
    answers = [door.http.post(f"/api/v1/jobs/{job}/cancel") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_job_that_ended_otherwise_cannot_be_cancelled(door: Door) -> None:
    job = door.accepted()["id"]
    door.run(job)
    answer = door.http.post(f"/api/v1/jobs/{job}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job-already-ended")
    assert answer.json()["facts"] == {"state": "succeeded"}
