"""The finished items of a job of many, read while it goes on and after its end."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.contracts import Artifact
from fleet.job_items import BLOCK, ITEMS_NAME, block_name
from fleet.objects import result_key
from fleet.parts import PartStore
from tests.support.front_door import Door


def lines(*numbers: int) -> bytes:
    return b"".join(json.dumps({"index": number, "result": {}}).encode() + b"\n" for number in numbers)


def read(door: Door, job_id: str, state: str, **query: Any) -> list[int]:
    answer = door.http.get(f"/api/v1/jobs/{job_id}/items", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/jsonl")
    assert answer.headers["fleet-job-state"] == state
    return [json.loads(line)["index"] for line in answer.text.splitlines()]


def test_whole_blocks_are_read_while_the_job_runs(door: Door) -> None:
    job_id = door.accepted()["id"]
    assert read(door, job_id, "queued") == []
    claim = door.core.jobs.claim(door.id(job_id), "test-worker", 30.0)
    assert claim is not None
    parts = PartStore(door.core.database, door.core.objects)
    # Of what lies beyond a block that is missing nobody could ask for the rest.
    for block in (3, 1, 0):
        numbers = range(block * BLOCK, (block + 1) * BLOCK)
        assert parts.keep(claim.job, "origin", block_name(block), lines(*numbers))
    parts.keep(claim.job, "origin", "something-else", b"not items")
    assert read(door, job_id, "running") == list(range(2 * BLOCK))
    assert read(door, job_id, "running", first=BLOCK + 3) == list(range(BLOCK + 3, 2 * BLOCK))
    assert read(door, job_id, "running", first=10 * BLOCK) == []


def test_a_list_in_the_result_is_read_in_the_same_form(door: Door) -> None:
    job_id = door.accepted()["id"]
    door.run(job_id, {"count": 3, "items": [{"index": number} for number in range(3)]})
    assert read(door, job_id, "succeeded") == [0, 1, 2]
    assert read(door, job_id, "succeeded", first=2) == [2]


def test_a_list_in_an_artifact_is_read_in_the_same_form(door: Door, tmp_path: Path) -> None:
    job_id = door.accepted()["id"]
    (tmp_path / ITEMS_NAME).write_bytes(lines(*range(5000)))
    stored = door.core.objects.put_file(
        result_key(door.id(job_id), 1, ITEMS_NAME),
        tmp_path / ITEMS_NAME,
        media_type="application/jsonl",
        name=ITEMS_NAME,
    )
    door.run(job_id, {"count": 5000, "artifact": ITEMS_NAME}, artifacts=[Artifact(name=ITEMS_NAME, object=stored)])
    assert read(door, job_id, "succeeded") == list(range(5000))
    assert read(door, job_id, "succeeded", first=4998) == [4998, 4999]


@pytest.mark.parametrize(("result", "query", "status"), [({"text": "x"}, {}, 409), ({"items": []}, {"first": -1}, 422)])
def test_what_has_no_items_says_so(door: Door, result: dict[str, Any], query: dict[str, int], status: int) -> None:
    job_id = door.accepted()["id"]
    door.run(job_id, result)
    answer = door.http.get(f"/api/v1/jobs/{job_id}/items", params=query)
    assert answer.status_code == status
    assert answer.json()["code"] == ("job-has-no-items" if status == 409 else "validation-failed")
