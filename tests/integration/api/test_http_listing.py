"""GET /api/v1/jobs and its neighbours: pages, filters, one job, its result."""

from typing import Any

from fleet.errors import CorruptInput
from fleet.job_values import Ending
from tests.support.front_door import Door


def listed(door: Door, query: str = "") -> list[str]:
    answer = door.http.get(f"/api/v1/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["jobs"]]


def test_pages_by_key_show_every_job_once_newest_first(door: Door) -> None:
    ids = [door.accepted()["id"] for _ in range(7)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = door.http.get(f"/api/v1/jobs?limit=3{cursor}").json()
        seen += [job["id"] for job in page["jobs"]]
        # A job that comes in between belongs to no later page.
        door.accepted()
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ids[::-1]


def test_a_page_that_is_just_full_is_the_last(door: Door) -> None:
    for _ in range(3):
        door.accepted()
    page = door.http.get("/api/v1/jobs?limit=3").json()
    assert (len(page["jobs"]), page["next_cursor"]) == (3, None)


def test_filters_narrow_the_list(door: Door) -> None:
    volume = door.http.post("/api/v1/uploads?name=a.nii", content=b"abc").json()
    high = door.accepted(priority="high", labels={"study": "A17", "site": "x:y"})["id"]
    bulk = door.accepted(model="volume", inputs=[{"upload": volume["id"]}], labels={"study": "A18"})["id"]
    done = door.accepted()["id"]
    door.run(done)
    running = door.accepted()["id"]
    assert door.core.jobs.claim(door.id(running), "w", 30.0)
    cancelling = door.accepted()["id"]
    assert door.core.jobs.claim(door.id(cancelling), "w", 30.0)
    assert door.http.post(f"/api/v1/jobs/{cancelling}/cancel").status_code == 202
    assert listed(door, "priority=high") == [high]
    assert listed(door, "model=volume") == listed(door, "task=segmentation") == [bulk]
    assert listed(door, "label=study:A17") == listed(door, "label=study:A17&label=site:x:y") == [high]
    assert listed(door, "label=study:A17&label=site:z") == []
    assert listed(door, "state=succeeded") == [done]
    assert listed(door, "state=running") == [running]
    assert listed(door, "state=cancelling") == [cancelling]
    assert listed(door, "state=queued") == [bulk, high]


def test_times_narrow_the_list_and_are_utc_without_a_zone(door: Door) -> None:
    first = door.accepted()
    second = door.accepted()
    moment = second["created_at"]
    assert listed(door, f"created_after={moment}") == [second["id"]]
    assert listed(door, f"created_before={moment.rstrip('Z')}") == [first["id"]]


def test_a_result_is_served_alone_and_only_when_there_is_one(door: Door) -> None:
    job = door.accepted()["id"]
    waiting = door.http.get(f"/api/v1/jobs/{job}/result")
    assert (waiting.status_code, waiting.json()["code"]) == (409, "job-not-ended")
    door.run(job, result={"text": "ä", "n": [1, 2.5, None]})
    assert door.http.get(f"/api/v1/jobs/{job}/result").json() == {"text": "ä", "n": [1, 2.5, None]}


def test_a_failed_job_tells_why_and_has_no_result(door: Door) -> None:
    job = door.accepted()["id"]
    claim = door.core.jobs.claim(door.id(job), "w", 30.0)
    assert claim is not None
    door.core.jobs.fail(claim.job, CorruptInput("cut short", code="truncated-gzip", at=7), Ending({}, None))
    shown: dict[str, Any] = door.http.get(f"/api/v1/jobs/{job}").json()
    assert shown["state"] == "failed"
    assert shown["error"] == {
        "code": "truncated-gzip",
        "message": "cut short",
        "retryable": False,
        "input_at_fault": True,
        "facts": {"at": 7},
    }
    answer = door.http.get(f"/api/v1/jobs/{job}/result")
    assert (answer.status_code, answer.json()["code"]) == (409, "job-has-no-result")
    assert "cut short" in answer.json()["detail"]
