"""What a job may expect: its place, its start and its end, from the record and what lives."""

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from pydantic import SecretStr

from fleet.contracts import DevicePolicy, Lane, MediaKind, Pool
from fleet.cost import Belief, Key, size_bucket
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.waiting import eventually

ALICE, BOB = {"X-API-Key": "alices-key"}, {"X-API-Key": "bobs-key"}
BULK = card("bulk", lane=Lane.BULK)
HELLO = size_bucket(len(b"hello"))


@pytest.fixture
def one_slot(door: Door) -> Door:
    """One CPU worker with one slot, on which a job of five bytes takes two seconds: known well."""
    door.announce(BULK)
    learn(door, "bulk", 2.0)
    door.core.catalogue.announce_worker(worker_row(concurrency=1, models=["text/1", "bulk/1"]))
    return door


def learn(door: Door, model: str, seconds: float) -> None:
    door.core.service_times.learn({Key(model, 1, HELLO, "cpu"): Belief(50.0, math.log(seconds), 0.01)})


def asked(door: Door, job_id: str, headers: dict[str, str] | None = None) -> dict[str, Any] | None:
    forecast = door.http.get(f"/api/v1/jobs/{job_id}", headers=headers).json()["forecast"]
    assert forecast is None or isinstance(forecast, dict)
    return forecast


def told(door: Door, job_id: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    forecast = asked(door, job_id, headers)
    assert forecast is not None
    return forecast


def seconds(forecast: dict[str, Any], what: str, which: str) -> float:
    return (datetime.fromisoformat(forecast[what][which]) - datetime.fromisoformat(forecast["at"])).total_seconds()


def test_positions_and_starts_follow_the_queue(one_slot: Door) -> None:
    jobs = [one_slot.accepted(model="bulk")["id"] for _ in range(4)]
    assert one_slot.core.jobs.claim(one_slot.id(jobs[0]), "w1", 30.0)
    forecasts = [told(one_slot, job) for job in jobs[1:]]
    assert [forecast["position"] for forecast in forecasts] == [1, 2, 3]
    assert not any(forecast["position_at_least"] for forecast in forecasts)
    for place, forecast in enumerate(forecasts):
        # A job runs that takes two seconds, and so does each that waits before this one.
        assert seconds(forecast, "start", "earliest") <= 2 * (place + 1) <= seconds(forecast, "start", "latest")
        assert seconds(forecast, "end", "earliest") <= 2 * (place + 2) <= seconds(forecast, "end", "latest")
        assert 2 * place < seconds(forecast, "start", "expected") < 2 * place + 3
        assert (forecast["basis"], forecast["why"]) == ("measured", None)


def test_more_urgent_jobs_go_first(one_slot: Door) -> None:
    jobs = [one_slot.accepted(model="bulk", priority="high")["id"] for _ in range(5)]
    low = one_slot.accepted(model="bulk", priority="low")["id"]
    one_slot.core.jobs.claim(one_slot.id(jobs[0]), "w1", 30.0)
    eventually(lambda: seconds(told(one_slot, low), "start", "expected") > 8)
    assert told(one_slot, low)["position"] == 1


def test_a_free_worker_takes_it_at_once(one_slot: Door) -> None:
    forecast = told(one_slot, one_slot.accepted(model="bulk")["id"])
    assert seconds(forecast, "start", "expected") == 0
    assert 1.5 < seconds(forecast, "end", "expected") < 2.5


def test_what_nobody_can_run_says_why(door: Door) -> None:
    door.announce(BULK, card("gpu", lane=Lane.BULK, device=DevicePolicy.GPU_ONLY))
    alone = told(door, door.accepted(model="bulk")["id"])
    assert (alone["start"], alone["end"], alone["position"]) == (None, None, 1)
    assert alone["why"] == "no CPU worker of the bulk lane is alive"
    door.core.catalogue.announce_worker(worker_row(models=["bulk/1", "gpu/1"]))
    gpu_only = door.accepted(model="gpu")["id"]
    assert told(door, gpu_only)["why"] == "no GPU worker of the bulk lane is alive"
    door.core.catalogue.announce_worker(worker_row("g1", Pool.GPU, models=["other/1"]))
    eventually(lambda: "model gpu/1" in (told(door, gpu_only)["why"] or ""))


def test_a_running_job_has_an_end_that_comes_nearer_and_no_start(one_slot: Door) -> None:
    job_id = one_slot.accepted(model="bulk")["id"]
    claim = one_slot.core.jobs.claim(one_slot.id(job_id), "w1", 30.0)
    assert claim is not None
    first = told(one_slot, job_id)
    assert (first["start"], first["position"]) == (None, None)
    assert 1 < seconds(first, "end", "expected") < 3
    one_slot.core.jobs.note_progress([(claim.job.id, 1, "infer", 0.999)])
    assert seconds(told(one_slot, job_id), "end", "latest") < 0.5


def test_ended_jobs_lists_and_cancelling_jobs_have_none(one_slot: Door) -> None:
    job_id = one_slot.accepted(model="bulk")["id"]
    one_slot.run(job_id)
    assert asked(one_slot, job_id) is None
    waiting = one_slot.accepted(model="bulk")["id"]
    listed = one_slot.http.get("/api/v1/jobs").json()["jobs"]
    assert [job["forecast"] for job in listed] == [None, None]
    one_slot.core.jobs.claim(one_slot.id(waiting), "w1", 30.0)
    assert one_slot.http.post(f"/api/v1/jobs/{waiting}/cancel").json()["state"] == "cancelling"
    assert asked(one_slot, waiting) is None


def test_a_submit_tells_what_the_leader_saw_without_a_position(one_slot: Door) -> None:
    one_slot.accepted(model="bulk")
    eventually(lambda: one_slot.core.traffic.now() is not None)
    forecast = one_slot.accepted(model="bulk")["forecast"]
    assert forecast["position"] is None
    assert seconds(forecast, "start", "earliest") <= seconds(forecast, "start", "expected")
    assert seconds(forecast, "start", "expected") < seconds(forecast, "end", "expected")


def test_a_job_that_pauses_starts_no_earlier(one_slot: Door) -> None:
    job_id = one_slot.accepted(model="bulk")["id"]
    claim = one_slot.core.jobs.claim(one_slot.id(job_id), "w1", 30.0)
    assert claim is not None
    one_slot.core.jobs.hand_back(claim.job, "for a test", pause_s=60.0)
    forecast = told(one_slot, job_id)
    assert 55 < seconds(forecast, "start", "earliest") <= seconds(forecast, "start", "latest") < 62


@pytest.fixture
def two_tenants(settings: Settings) -> Iterator[Door]:
    keys = SecretStr("alice:alices-key,bob:bobs-key")
    with front_door(settings, api_keys=keys, tenant_weights={"bob": 2.0}) as door:
        door.announce(BULK, card("volume", task="segmentation", accepts=MediaKind.VOLUME))
        door.core.catalogue.announce_worker(worker_row(models=["bulk/1"], concurrency=1))
        yield door


def test_held_jobs_of_two_tenants_take_turns_by_weight(two_tenants: Door) -> None:
    def submitted(headers: dict[str, str], count: int) -> list[str]:
        return [str(two_tenants.submit(headers, model="bulk").json()["id"]) for _ in range(count)]

    def positions(headers: dict[str, str], jobs: list[str]) -> list[int]:
        return [int(told(two_tenants, job, headers)["position"]) for job in jobs]

    alices, bobs = submitted(ALICE, 20), submitted(BOB, 20)
    # Eight of Alice's have a message, and of Bob, whose weight is two, sixteen.
    eventually(lambda: positions(ALICE, alices[:1]) == [1] and positions(BOB, bobs[15:16]) == [24])
    assert positions(ALICE, alices[:8]) == list(range(1, 9))
    # Those that are held: two of Bob's for one of Alice's.
    assert positions(ALICE, alices[8:12]) == [24 + 0 + 2 + 1, 24 + 1 + 4 + 1, 24 + 2 + 4 + 1, 24 + 3 + 4 + 1]
    assert positions(BOB, bobs[16:]) == [24 + 0 + 0 + 1, 24 + 1 + 1 + 1, 24 + 2 + 2 + 1, 24 + 3 + 2 + 1]
