"""The fleet and its queues as their users see them, and what one tenant sees of another."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from fleet.contracts import Lane, Pool
from fleet.queues import ALL_QUEUES
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.waiting import eventually

ALICE, BOB = {"X-API-Key": "alices-key"}, {"X-API-Key": "bobs-key"}
BULK = card("bulk", lane=Lane.BULK)


def seen(door: Door, what: str, headers: dict[str, str] | None = None, **params: str) -> dict[str, Any]:
    answer = door.http.get(f"/api/v1/monitoring/{what}", headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture
def guarded(settings: Settings) -> Iterator[Door]:
    with front_door(settings, api_keys=SecretStr("alice:alices-key,bob:bobs-key")) as door:
        door.announce(card(), BULK)
        yield door


def test_workers_are_shown_as_they_told_and_vanish_when_they_leave(door: Door) -> None:
    assert seen(door, "fleet")["workers"] == []
    told = worker_row(
        "g1",
        Pool.GPU,
        device="simulated-gpu",
        simulated=True,
        loaded=["text/1"],
        queues=["gpu.bulk.low"],
        memory_usable_bytes=8,
        device_memory_bytes=16,
        device_used_bytes=4,
        draining=True,
    )
    door.core.catalogue.announce_worker(told)
    door.core.catalogue.announce_worker(worker_row("c1", running=1))
    fleet = seen(door, "fleet")
    cpu, gpu = fleet["workers"]
    assert (cpu["name"], cpu["slots"], cpu["running"], cpu["models"], cpu["simulated"]) == ("c1", 2, 1, 1, False)
    assert (gpu["simulated"], gpu["draining"]) == (True, True)
    assert (gpu["loaded"], gpu["queues"]) == (["text/1"], ["gpu.bulk.low"])
    assert (gpu["device_memory_bytes"], gpu["device_used_bytes"], gpu["memory_usable_bytes"]) == (16, 4, 8)
    pools = {pool["pool"]: pool for pool in fleet["pools"]}
    assert pools["gpu"] == {"pool": "gpu", "workers": 1, "draining": 1, "simulated": 1, "slots": 0, "running": 0}
    assert (pools["cpu"]["slots"], pools["cpu"]["running"], fleet["unavailable"]) == (2, 1, [])
    door.core.catalogue.withdraw_worker("g1", told.pid)
    assert [worker["name"] for worker in seen(door, "fleet")["workers"]] == ["c1"]


def test_running_jobs_show_how_far_they_are(door: Door) -> None:
    job_id = door.accepted(priority="high")["id"]
    claim = door.core.jobs.claim(door.id(job_id), "w1", 30.0)
    assert claim is not None
    door.core.jobs.note_progress([(claim.job.id, 1, "infer", 0.5)])
    (running,) = seen(door, "fleet")["running"]
    assert 0 <= running.pop("seconds") < 30
    assert running == {
        "id": job_id,
        "model": "text",
        "version": 1,
        "stage": "infer",
        "progress": 0.5,
        "priority": "high",
        "lane": "interactive",
        "queue": "cpu.interactive.high",
        "worker": "w1",
    }


def test_of_other_tenants_jobs_only_the_id_is_hidden(guarded: Door) -> None:
    mine = guarded.submit(ALICE).json()["id"]
    assert guarded.core.jobs.claim(guarded.id(mine), "w1", 30.0)
    assert [job["id"] for job in seen(guarded, "fleet", ALICE)["running"]] == [mine]
    (foreign,) = seen(guarded, "fleet", BOB)["running"]
    assert (foreign["id"], foreign["model"], foreign["worker"]) == (None, "text", "w1")
    assert mine not in guarded.http.get("/api/v1/monitoring/fleet", headers=BOB).text


def test_without_a_key_nothing_is_shown(guarded: Door) -> None:
    for what in ("fleet", "queues"):
        assert guarded.http.get(f"/api/v1/monitoring/{what}").status_code == 401


def test_queues_show_what_waits_and_lanes_what_may(guarded: Door) -> None:
    for headers, count in ((ALICE, 2), (BOB, 1)):
        for _ in range(count):
            assert guarded.submit(headers, model="bulk", priority="low").status_code == 202
    eventually(lambda: [queue["published"] for queue in seen(guarded, "queues", ALICE)["queues"]] == [3])
    page = seen(guarded, "queues", ALICE)
    (queue,) = page["queues"]
    assert (queue["name"], queue["messages"], queue["held"], queue["wait_s"]) == ("cpu.bulk.low", 3, 0, None)
    assert queue["oldest_s"] > 0
    lanes = {lane["lane"]: lane for lane in page["lanes"]}
    assert (lanes["bulk"]["waiting"], lanes["bulk"]["yours"], lanes["interactive"]["waiting"]) == (3, 2, 0)
    assert lanes["bulk"]["limit"] == guarded.core.settings.max_waiting_jobs
    assert lanes["bulk"]["your_limit"] == guarded.core.settings.max_waiting_jobs_per_tenant
    assert {lane["lane"]: lane["yours"] for lane in seen(guarded, "queues", BOB)["lanes"]}["bulk"] == 1
    assert page["traffic_age_s"] < 15


def test_all_queues_are_shown_on_request_with_the_wait_in_them(door: Door) -> None:
    door.core.catalogue.announce_worker(worker_row(queues=["cpu.bulk.low"]))
    eventually(lambda: seen(door, "queues")["traffic_age_s"] is not None)
    assert seen(door, "queues")["queues"] == []
    queues = {queue["name"]: queue for queue in seen(door, "queues", all="true")["queues"]}
    assert list(queues) == list(ALL_QUEUES)
    assert (queues["cpu.bulk.low"]["wait_s"], queues["cpu.bulk.low"]["workers"]) == (0, 1)
    assert (queues["gpu-only.bulk.low"]["wait_s"], queues["gpu-only.bulk.low"]["workers"]) == (None, 0)


def test_helpers_and_their_reason_are_shown_at_the_queue_and_at_the_worker(door: Door) -> None:
    door.announce(BULK)
    door.core.catalogue.announce_worker(worker_row("g1", Pool.GPU, models=["bulk/1"]))
    eventually(lambda: door.accepted(model="bulk")["queue"] == "gpu.bulk.normal")
    door.core.catalogue.withdraw_worker("g1", 1)
    door.core.catalogue.announce_worker(worker_row("c1", helps=True, models=["bulk/1"], queues=["gpu.bulk.normal"]))
    # Its jobs may also be moved: then nobody is asked to help there any more, but at the other queues of the GPUs.
    why = "no GPU worker of the bulk lane is alive"

    def helping() -> dict[str, dict[str, Any]]:
        (worker,) = seen(door, "fleet")["workers"]
        return {entry["queue"]: entry for entry in worker["helping"]}

    eventually(lambda: "gpu.bulk.normal" in helping())
    assert helping()["gpu.bulk.normal"] == {"queue": "gpu.bulk.normal", "why": why, "joined": True}
    assert helping()["gpu.bulk.low"]["joined"] is False
    queues = {queue["name"]: queue for queue in seen(door, "queues", all="true")["queues"]}
    assert (queues["gpu.bulk.normal"]["helpers"], queues["gpu.bulk.normal"]["help_why"]) == (["c1"], why)
