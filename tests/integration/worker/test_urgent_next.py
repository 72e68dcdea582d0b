"""The front door, its dispatcher and a real worker: what is urgent starts next, and shares hold."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from fleet.contracts import Job
from fleet.settings import Settings
from tests.support.fleet_of_one import wait_for, worker_process
from tests.support.front_door import Door, front_door
from tests.support.waiting import eventually

ALICE, BOB = {"Authorization": "Bearer key-a"}, {"Authorization": "Bearer key-b"}
_FILL = """
INSERT INTO job (id, tenant, task, model, version, lane, priority, pool, queue, params, max_attempts,
                 execution_timeout_s, deadline_s, published_at, publish_after)
SELECT gen_random_uuid(), 'alice', 'echo', 'echo', 1, 'interactive', 3, 'cpu', 'cpu.interactive.low', %(params)s, 3, 60,
       86400, NULL, clock_timestamp() - interval '1 hour' + number * interval '1 millisecond'
  FROM generate_series(1, %(count)s) AS number
"""


@pytest.fixture
def door(settings: Settings, tmp_path: Path) -> Iterator[Door]:
    keys = SecretStr("alice:key-a,bob:key-b")
    with (
        front_door(settings, api_keys=keys, reconcile_every_s=0.5) as door,
        worker_process(settings, tmp_path, WORKER_CONCURRENCY="1", WORKER_NAME="w"),
    ):
        # The first round finds a Redis that it has never seen.
        eventually(door.core.broker.has_canary)
        yield door


def submitted(door: Door, headers: dict[str, str], **body: object) -> Job:
    request = {"model": "echo", "lane": "interactive", **body}
    answer = door.http.post("/api/v1/jobs", json=request, headers=headers)
    assert answer.status_code == 202, answer.text
    return door.core.jobs.get(door.id(answer.json()["id"]))


def started_between(door: Door, one: Job) -> int:
    """Jobs that started after that one was accepted, and before it started."""
    row = door.core.database.one(
        "select count(*) as jobs from job where started_at between %(from)s and %(to)s and id <> %(id)s",
        {"from": one.created_at, "to": one.started_at, "id": one.id},
    )
    assert row is not None
    return int(row["jobs"])


def test_an_urgent_job_is_the_next_to_start_among_a_thousand_low_ones(door: Door) -> None:
    door.core.database.run(_FILL, {"count": 1000, "params": '{"pause_s": 0.05}'})
    eventually(lambda: door.core.database.run("select from job where state = 'succeeded' limit 5")[4:])
    urgent = [wait_for(door.core.jobs, submitted(door, ALICE, priority="urgent").id) for _ in range(5)]
    # One at most was on its way from the queue to its claim.
    assert all(started_between(door, job) <= 1 for job in urgent)
    rest = door.core.database.one("select count(*) as jobs from job where state = 'queued' and priority = 3")
    assert rest is not None
    assert rest["jobs"] > 500


def test_a_tenant_who_comes_later_takes_turns_with_one_who_has_thousands(door: Door) -> None:
    door.core.database.run(_FILL, {"count": 5000, "params": '{"pause_s": 0.01}'})
    eventually(lambda: door.core.database.run("select from job where state = 'succeeded' limit 50")[49:])
    mine = [submitted(door, BOB, priority="low") for _ in range(20)]
    ended = [wait_for(door.core.jobs, job.id) for job in mine]
    ahead = started_between(door, ended[-1])
    # Of the thousands before them, what was in the queue: a few windows; and then turn by turn.
    assert ahead < 1000
    assert max(job.started_at for job in ended if job.started_at) == ended[-1].started_at
