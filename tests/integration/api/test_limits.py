"""A fleet that is full says so, and when to come back; it never refuses what it has accepted."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from fleet.contracts import DevicePolicy, Lane, Pool
from fleet.settings import Settings
from fleet.traffic import QueueTraffic, Traffic
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.waiting import eventually

ALICE, BOB = {"Authorization": "Bearer key-a"}, {"Authorization": "Bearer key-b"}
QUEUE = "cpu.interactive.normal"


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    keys = SecretStr("alice:key-a,bob:key-b")
    with front_door(settings, api_keys=keys, max_waiting_jobs=30, max_waiting_jobs_per_tenant=20) as door:
        door.announce(card())
        yield door


def waiting(door: Door) -> int:
    return len(door.core.database.run("select from job where state = 'queued'"))


def test_a_tenant_with_too_many_waiting_jobs_is_sent_away_with_the_numbers(door: Door) -> None:
    answers = [door.submit(headers=ALICE) for _ in range(21)]
    assert [answer.status_code for answer in answers] == [202] * 20 + [429]
    problem = answers[-1].json()
    assert problem["code"] == "too-many-waiting"
    assert problem["facts"] == {"lane": "interactive", "waiting": 20, "limit": 20}
    assert 1 <= problem["retry_after"] <= 600
    assert answers[-1].headers["retry-after"] == str(problem["retry_after"])
    # His neighbour is not concerned.
    assert door.submit(headers=BOB).status_code == 202


def test_a_full_lane_is_503_for_everybody_and_the_other_lane_is_not_concerned(door: Door) -> None:
    accepted = [door.submit(headers=headers).status_code for headers in [ALICE] * 15 + [BOB] * 15]
    assert accepted == [202] * 30
    for headers in (ALICE, BOB):
        problem = door.submit(headers=headers)
        assert (problem.status_code, problem.json()["code"]) == (503, "lane-full")
        assert problem.json()["facts"] == {"lane": "interactive", "waiting": 30, "limit": 30}
    assert door.submit(headers=ALICE, lane="bulk").status_code == 202
    refused = door.core.measures.registry.get_sample_value("fleet_jobs_refused_total", {"code": "lane-full"})
    assert refused == 2


def test_concurrent_submits_do_not_exceed_the_limit(door: Door) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: door.submit(headers=ALICE).status_code, range(60)))
    assert set(answers) == {202, 429}
    assert answers.count(202) == waiting(door) <= 20
    # What was under way when the jobs were counted may have been counted twice, for a moment.
    eventually(lambda: door.submit(headers=ALICE).status_code == 429 and waiting(door) == 20)


def test_a_repeat_of_an_accepted_job_is_never_refused(door: Door) -> None:
    first = door.submit(headers={**ALICE, "Idempotency-Key": "k"})
    for _ in range(20):
        door.submit(headers=ALICE)
    again = door.submit(headers={**ALICE, "Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert door.submit(headers=ALICE).status_code == 429


def test_when_jobs_have_been_taken_there_is_room_again(door: Door) -> None:
    jobs = [door.submit(headers=ALICE).json()["id"] for _ in range(20)]
    assert door.submit(headers=ALICE).status_code == 429
    for job in jobs[:5]:
        door.run(job)
    eventually(lambda: door.submit(headers=ALICE).status_code == 202)


def test_the_moment_to_come_back_follows_from_what_workers_need(settings: Settings) -> None:
    keys = SecretStr("alice:key-a,bob:key-b")
    with front_door(settings, api_keys=keys, max_waiting_jobs=20, reconcile_every_s=600.0) as door:
        # The first round finds a Redis that it has never seen.
        eventually(door.core.broker.has_canary)
        door.core.dispatcher.close()
        door.announce(card())
        assert [door.submit(headers=ALICE).status_code for _ in range(20)] == [202] * 20
        # Nobody lives who could take anything.
        assert door.submit(headers=ALICE).json()["retry_after"] == 600
        door.core.catalogue.announce_worker(worker_row(concurrency=2))
        seen = Traffic(
            at=datetime.now(UTC),
            queues={QUEUE: QueueTraffic(published=20, gpu_s=10.0, cpu_s=60.0)},
            tenants={Lane.INTERACTIVE: {"alice": 20}},
        )
        door.core.dispatcher._board.write(seen)
        # One job is to be free again: 60 s each, two at a time.
        eventually(lambda: door.submit(headers=ALICE).json()["retry_after"] == 30)


def test_who_would_rather_not_wait_for_a_worker_is_told_that_none_lives(door: Door) -> None:
    door.announce(card("gpu-model", device=DevicePolicy.GPU_ONLY))
    door.core.catalogue.announce_worker(worker_row(models=["text/1", "gpu-model/1"]))
    refused = door.submit(headers=ALICE, model="gpu-model", when_no_worker="refuse")
    assert (refused.status_code, refused.json()["code"]) == (503, "no-capable-worker")
    assert refused.json()["facts"]["alive"] == {"gpu": 0, "cpu": 1}
    assert door.submit(headers=ALICE, model="gpu-model").status_code == 202
    assert door.submit(headers=ALICE, when_no_worker="refuse").status_code == 202
    door.announce(card("nobody-holds-it"))
    assert door.submit(headers=ALICE, model="nobody-holds-it", when_no_worker="refuse").status_code == 503


def test_a_gpu_that_lives_takes_what_only_it_can(door: Door) -> None:
    door.announce(card("gpu-model", device=DevicePolicy.GPU_ONLY))
    door.core.catalogue.announce_worker(worker_row("g", Pool.GPU, models=["gpu-model/1"]))
    accepted = door.submit(headers=ALICE, model="gpu-model", when_no_worker="refuse")
    assert accepted.status_code == 202
    assert accepted.json()["queue"] == "gpu-only.interactive.normal"


def test_a_look_at_an_old_count_makes_no_room(door: Door) -> None:
    eventually(door.core.traffic.now)
    # As with a backlog so deep that it is counted seldom.
    door.core.dispatcher._look._census._again_at = float("inf")
    answers: list[int] = []
    for _ in range(3):
        answers += [door.submit(headers=ALICE).status_code for _ in range(10)]
        seen = door.core.traffic.now()
        eventually(lambda: door.core.traffic.now() != seen)  # noqa: B023 (called at once)
    assert answers.count(202) == 20
