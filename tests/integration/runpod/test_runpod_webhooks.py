"""Webhooks of jobs that were made as RunPod's: a real receiver gets the job object, signed as Fleet's own are."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import SecretStr

from fleet.contracts import Artifact, ObjectRef
from fleet.errors import CorruptInput
from fleet.job_values import Ending
from fleet.webhook_keys import written
from tests.integration.runpod.conftest import CARD
from tests.support.front_door import Door, front_door
from tests.support.receiver import Receiver, receiver
from tests.support.servers import Servers
from tests.support.waiting import eventually

BASE = "/runpod/v2/colours"
INPUT = {"image": "aGVsbG8="}


@pytest.fixture(scope="module")
def telling(servers: Servers) -> Iterator[Door]:
    webhooks: dict[str, Any] = {
        "webhook_secrets": SecretStr(written(b"1" * 32)),
        "outward_allow_networks": [ip_network("127.0.0.0/8")],
        "public_url": "https://fleet.example/base/",
    }
    with servers.fresh() as settings, front_door(settings, **webhooks) as opened:
        opened.announce(CARD)
        yield opened


def run(door: Door, server: Receiver) -> str:
    answer = door.http.post(f"{BASE}/run", json={"input": INPUT, "webhook": server.url()})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def status(door: Door, job_id: str) -> dict[str, Any]:
    return dict(door.http.get(f"{BASE}/status/{job_id}").json())


def fail(door: Door, job_id: str) -> None:
    claim = door.core.jobs.claim(door.id(job_id), "w", 30.0)
    assert claim is not None
    error = CorruptInput("cut short", code="corrupt-picture")
    assert door.core.jobs.fail(claim.job, error, Ending({"infer": 0.5}, None))


def deliveries(door: Door, job_id: str) -> list[dict[str, Any]]:
    return list(door.http.get("/api/v1/webhooks/deliveries", params={"job": job_id}).json()["deliveries"])


def delivered(door: Door, job_id: str) -> dict[str, Any]:
    """The job's one delivery, once it has arrived."""
    eventually(lambda: [one["state"] for one in deliveries(door, job_id)] == ["delivered"])
    return deliveries(door, job_id)[0]


def tries(door: Door, job_id: str) -> list[dict[str, Any]]:
    (delivery,) = deliveries(door, job_id)
    return list(door.http.get(f"/api/v1/webhooks/deliveries/{delivery['id']}").json()["history"])


def test_a_receiver_gets_what_status_answers_signed_and_listed(telling: Door) -> None:
    with receiver() as server:
        job_id = run(telling, server)
        stored = ObjectRef(bucket="fleet", key="results/x", size=1)
        telling.run(job_id, {"top_class": "red"}, artifacts=[Artifact(name="red ü.png", object=stored)])
        (told,) = server.wait_for(1)
        listed = delivered(telling, job_id)
    assert told.headers["content-type"] == "application/json"
    (secret,) = telling.http.get("/api/v1/webhooks/secret").json()["secrets"]
    assert told.verified(secret) == told.json == status(telling, job_id)
    assert (told.json["id"], told.json["status"], told.json["executionTime"]) == (job_id, "COMPLETED", 100)
    assert told.json["output"]["result"] == {"top_class": "red"}
    assert told.json["output"]["artifacts"][0]["url"].startswith("https://fleet.example/base/api/v1/jobs/")
    assert (listed["id"], listed["type"]) == (told.id, "job.succeeded")


def test_a_replay_has_the_same_body(telling: Door) -> None:
    with receiver() as server:
        job_id = run(telling, server)
        telling.run(job_id, {"top_class": "red"})
        server.wait_for(1)
        listed = delivered(telling, job_id)
        assert telling.http.post(f"/api/v1/webhooks/deliveries/{listed['id']}/replay").status_code == 202
        first, second = server.wait_for(2)
    assert (first.id, first.body) == (second.id, second.body)


def test_a_failure_is_told_as_it_was_also_when_the_job_was_retried_since(telling: Door) -> None:
    with receiver(500, 204) as server:
        job_id = run(telling, server)
        fail(telling, job_id)
        failed = status(telling, job_id)
        server.wait_for(1)
        eventually(lambda: tries(telling, job_id)[0]["status"])
        telling.http.post(f"{BASE}/retry/{job_id}")
        telling.core.database.run("update webhook_delivery set due_at = clock_timestamp() where state = 'pending'")
        first, second = server.wait_for(2)
        delivered(telling, job_id)
    assert first.json == failed
    assert status(telling, job_id)["status"] == "IN_QUEUE"
    assert (second.id, second.json["id"], second.json["status"]) == (first.id, job_id, "FAILED")
    assert second.json["error"] == failed["error"] == "corrupt-picture: cut short"
    assert second.json["output"]["error"] == failed["output"]["error"]


def test_a_cancelled_job_is_told_too(telling: Door) -> None:
    with receiver() as server:
        job_id = run(telling, server)
        telling.http.post(f"{BASE}/cancel/{job_id}")
        (told,) = server.wait_for(1)
        delivered(telling, job_id)
    assert told.json == {"id": job_id, "status": "CANCELLED"}


def test_a_native_job_may_ask_for_this_body_and_gets_fleets_own_without(telling: Door) -> None:
    with receiver() as server:
        for more in ({"body": "runpod"}, {}):
            job = telling.accepted(model="colours", callback={"url": server.url(), **more})
            assert job["callback"]["body"] == more.get("body", "event")
            telling.run(job["id"], {"top_class": "red"})
            delivered(telling, job["id"])
        asked, usual = server.received
    assert asked.json["status"] == "COMPLETED"
    assert (usual.json["type"], usual.headers["content-type"]) == ("job.succeeded", "application/cloudevents+json")
