"""Webhooks from the submit to the receiver, and what can be seen and done about them over HTTP."""

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from fleet.contracts import Artifact, ObjectRef
from fleet.settings import Settings
from fleet.webhook_keys import WebhookKeys, parse_secrets, written
from fleet.webhook_values import DeliveryState
from tests.support.front_door import Door, card, front_door
from tests.support.receiver import Holding, certificate, receiver
from tests.support.servers import Servers
from tests.support.waiting import eventually

OLD, NEW = (written(bytes([number]) * 32) for number in (1, 2))
API = "/api/v1/webhooks"
WEBHOOKS: dict[str, Any] = {
    "webhook_secrets": SecretStr(f"{NEW},{OLD}"),
    "webhook_timeout_s": 5.0,
    "outward_allow_networks": [ip_network("127.0.0.0/8")],
}


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    with front_door(settings, **WEBHOOKS) as opened:
        opened.announce(card())
        yield opened


@pytest.fixture(scope="module")
def outside_only(servers: Servers) -> Iterator[Door]:
    """A door that sends to public addresses alone, for what it refuses."""
    with servers.fresh() as settings, front_door(settings, **{**WEBHOOKS, "outward_allow_networks": []}) as opened:
        opened.announce(card())
        yield opened


def deliveries(door: Door, **query: str) -> list[dict[str, Any]]:
    return list(door.http.get(f"{API}/deliveries", params=query).json()["deliveries"])


def history(door: Door) -> list[dict[str, Any]]:
    """The tries of the newest delivery."""
    return list(door.http.get(f"{API}/deliveries/{deliveries(door)[0]['id']}").json()["history"])


def error(door: Door) -> str:
    """Why the first try of the newest delivery failed, once it has."""
    eventually(lambda: [entry["error"] for entry in history(door) if entry["error"]])
    return str(history(door)[0]["error"])


def make_due(door: Door) -> None:
    """As if the pause had passed."""
    door.core.database.run("update webhook_delivery set due_at = clock_timestamp() where state = 'pending'")


def settled(door: Door, delivery_id: str, state: str = "delivered") -> dict[str, Any]:
    """The delivery in full, once it is in that state."""
    eventually(lambda: door.http.get(f"{API}/deliveries/{delivery_id}").json()["state"] == state)
    return dict(door.http.get(f"{API}/deliveries/{delivery_id}").json())


def test_a_receiver_is_told_of_the_end_and_can_verify_it(door: Door) -> None:
    with receiver() as server:
        job = door.accepted(callback={"url": server.url("/hook?a=b")}, labels={"study": "A17"})
        assert job["callback"]["events"] == ["job.succeeded", "job.failed", "job.cancelled", "job.expired"]
        stored = ObjectRef(bucket="fleet", key="results/x", size=1)
        door.run(job["id"], artifacts=[Artifact(name="mask ü.nii.gz", object=stored)])
        (told,) = server.wait_for(1)

    assert told.path == "/hook?a=b"
    assert told.headers["content-type"] == "application/cloudevents+json"
    for secret in door.http.get(f"{API}/secret").json()["secrets"]:
        assert told.verified(secret) == told.json
    event = told.json
    assert event["id"] == told.id
    assert "." not in told.id
    assert (event["specversion"], event["source"], event["subject"]) == ("1.0", "/api/v1/jobs", job["id"])
    assert (event["type"], event["time"]) == ("job.succeeded", event["timestamp"])
    data = event["data"]
    assert (data["job_id"], data["state"], data["model"], data["labels"]) == (
        job["id"], "succeeded", "text", {"study": "A17"},
    )  # fmt: skip
    assert data["links"] == {"job": f"/api/v1/jobs/{job['id']}", "result": f"/api/v1/jobs/{job['id']}/result"}
    (artifact,) = data["artifacts"]
    assert artifact["url"].endswith("/artifacts/mask%20%C3%BC.nii.gz")
    assert data["finished_at"].endswith("Z")

    found = settled(door, told.id)
    assert (found["job_id"], found["type"], found["tries"], found["next_try_at"]) == (
        job["id"], "job.succeeded", 1, None,
    )  # fmt: skip
    assert [(entry["number"], entry["status"], entry["error"]) for entry in found["history"]] == [(1, 204, None)]


def test_links_are_absolute_where_the_servers_address_is_known(settings: Settings) -> None:
    with front_door(settings, **WEBHOOKS, public_url="https://fleet.example/base/") as door, receiver() as server:
        door.announce(card())
        job = door.accepted(callback={"url": server.url()})
        door.http.post(f"/api/v1/jobs/{job['id']}/cancel")
        (told,) = server.wait_for(1)
        assert told.json["source"] == "https://fleet.example/base/api/v1/jobs"
        assert told.json["data"]["links"] == {"job": f"https://fleet.example/base/api/v1/jobs/{job['id']}"}


def test_only_what_was_asked_for_is_told_in_any_order_of_asking(door: Door) -> None:
    with receiver() as server:
        events = ["job.started", "job.cancelled", "job.started"]
        first = door.accepted(callback={"url": server.url(), "events": events})
        assert first["callback"]["events"] == ["job.started", "job.cancelled"]
        door.run(first["id"])
        second = door.accepted(callback={"url": server.url(), "events": events})
        door.http.post(f"/api/v1/jobs/{second['id']}/cancel")
        told = server.wait_for(2)
        eventually(lambda: len(deliveries(door, state="delivered")) == 2)
        assert {(entry.json["type"], entry.json["subject"]) for entry in told} == {
            ("job.started", first["id"]),
            ("job.cancelled", second["id"]),
        }


def test_a_failed_try_is_listed_and_repeated_under_the_same_id(door: Door) -> None:
    with receiver(500, (302, {"Location": "/elsewhere"}), 204) as server:
        job = door.accepted(callback={"url": server.url()})
        door.run(job["id"])
        for count in (1, 2, 3):
            server.wait_for(count)
            eventually(lambda: all(entry["took_ms"] for entry in history(door)))
            if count < 3:
                assert deliveries(door)[0]["state"] == "pending"
                make_due(door)
        found = settled(door, deliveries(door)[0]["id"])
    assert [(entry["status"], entry["error"]) for entry in found["history"]] == [
        (500, "answered 500"),
        (302, "answered 302: redirects are not followed"),
        (204, None),
    ]
    assert {told.id for told in server.received} == {found["id"]}
    assert [told.path for told in server.received] == ["/hook"] * 3


def test_a_receiver_that_asks_for_patience_gets_it(door: Door) -> None:
    with receiver((429, {"Retry-After": "3600"})) as server:
        door.run(door.accepted(callback={"url": server.url()})["id"])
        server.wait_for(1)
        eventually(lambda: [entry["status"] for entry in history(door)] == [429])
    (row,) = door.core.database.run(
        "select extract(epoch from due_at - clock_timestamp())::float8 as pause_s from webhook_delivery"
    )
    assert 3500 < row["pause_s"] <= 3600


def test_a_receiver_that_is_gone_is_left_alone(door: Door) -> None:
    hold = Holding(410)
    with receiver(hold) as server:
        url = server.url()
        door.run(door.accepted(callback={"url": url})["id"])
        server.wait_for(1)
        # Another one, whose time has not come.
        door.core.database.run(
            "insert into webhook_delivery (tenant, job_id, url, type, data, due_at) "
            "select tenant, job_id, url, type, data, clock_timestamp() + interval '1 hour' from webhook_delivery"
        )
        hold.let_go()
        eventually(lambda: [entry["state"] for entry in deliveries(door)] == ["gone", "gone"])
        make_due(door)
        # What happens from now on is told again: somebody may have set the receiver up anew.
        door.run(door.accepted(callback={"url": url})["id"])
        server.wait_for(2)
        eventually(lambda: [entry["tries"] for entry in deliveries(door)] == [1, 0, 1])


def test_a_replay_sends_the_same_again(door: Door) -> None:
    with receiver() as server:
        door.run(door.accepted(callback={"url": server.url()})["id"])
        (first,) = server.wait_for(1)
        settled(door, first.id)
        answer = door.http.post(f"{API}/deliveries/{first.id}/replay")
        assert (answer.status_code, answer.json()["id"]) == (202, first.id)
        second = server.wait_for(2)[1]
        found = settled(door, first.id)
    assert (second.id, second.body) == (first.id, first.body)
    assert [entry["number"] for entry in found["history"]] == [1, 2]


def test_over_tls_the_receivers_name_is_what_counts(settings: Settings, tmp_path: Path) -> None:
    known, server_side = certificate(tmp_path, "localhost")
    changes = {**WEBHOOKS, "outward_ca_file": known, "outward_allow_networks": [ip_network("127.0.0.0/8")]}
    with front_door(settings, **changes) as door, receiver(tls=server_side) as server:
        door.announce(card())
        door.run(door.accepted(callback={"url": server.url(host="localhost")})["id"])
        (told,) = server.wait_for(1)
        assert told.headers["host"] == f"localhost:{server.port}"
        settled(door, told.id)
        door.run(door.accepted(callback={"url": server.url(host="127.0.0.1")})["id"])
        assert error(door).startswith("tls-failed: the certificate is not accepted")
        assert len(server.received) == 1


@pytest.mark.parametrize(
    ("callback", "pointer", "code"),
    [
        ({"url": "https://127.0.0.1/hook"}, "#/callback/url", "address-refused"),
        ({"url": "https://[::1]:8443/hook"}, "#/callback/url", "address-refused"),
        ({"url": "https://localhost/hook"}, "#/callback/url", "address-refused"),
        ({"url": "https://169.254.169.254/latest"}, "#/callback/url", "address-refused"),
        ({"url": "http://receiver.example/hook"}, "#/callback/url", "url-refused"),
        ({"url": "https://me:secret-word@receiver.example/"}, "#/callback/url", "url-refused"),
        ({"url": "https://receiver.example:22/"}, "#/callback/url", "url-refused"),
        ({"url": "ftp://receiver.example/"}, "#/callback/url", "url-refused"),
        ({"url": "hook"}, "#/callback/url", "url-refused"),
        ({"url": "https://receiver.example/" + "a" * 2048}, "#/callback/url", "url-refused"),
        ({"url": "https://receiver.example/\0"}, "#/callback/url", "url-refused"),
        ({}, "#/callback/url", "validation-failed"),
        ({"url": "https://receiver.example/", "events": []}, "#/callback/events", "validation-failed"),
        ({"url": "https://receiver.example/", "events": ["job.lost"]}, "#/callback/events/0", "validation-failed"),
        ({"url": "https://receiver.example/", "secret": "x"}, "#/callback/secret", "validation-failed"),
    ],
)
def test_a_callback_that_could_never_work_is_refused_at_the_submit(
    outside_only: Door, callback: dict[str, Any], pointer: str, code: str
) -> None:
    answer = outside_only.submit(callback=callback)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    assert "secret-word" not in answer.text
    assert outside_only.http.get("/api/v1/jobs").json()["jobs"] == []


def test_an_address_is_judged_again_at_every_try(settings: Settings) -> None:
    """What was allowed at the submit is not any more."""
    with receiver() as server:
        with front_door(settings, **{**WEBHOOKS, "webhook_secrets": SecretStr(NEW)}) as door:
            door.announce(card())
            job = door.accepted(callback={"url": server.url()})
        with front_door(settings, **{**WEBHOOKS, "outward_allow_networks": []}) as door:
            door.run(job["id"])
            eventually(lambda: deliveries(door))
            assert error(door).startswith("address-refused: ")
        assert server.received == []


def test_without_secrets_a_callback_is_refused_and_says_what_to_do(settings: Settings) -> None:
    with front_door(settings, **{**WEBHOOKS, "webhook_secrets": SecretStr("")}) as door:
        door.announce(card())
        answer = door.submit(callback={"url": "https://receiver.example/"})
        assert (answer.status_code, answer.json()["code"]) == (422, "webhooks-not-configured")
        assert "WEBHOOK_SECRETS" in answer.json()["detail"]
        for refused in (
            door.http.get(f"{API}/secret"),
            door.http.post(f"{API}/deliveries/msg_{uuid4().hex}/replay"),
        ):
            assert (refused.status_code, refused.json()["code"]) == (409, "webhooks-not-configured")
        assert deliveries(door) == []


def test_the_same_callback_under_one_key_is_the_same_request(door: Door) -> None:
    url = "https://receiver.example/hook"
    key = {"Idempotency-Key": "k"}
    first = door.submit(key, callback={"url": url})
    spelled = ["job.succeeded", "job.failed", "job.cancelled", "job.expired"]
    again = door.submit(key, callback={"url": url, "events": spelled})
    assert (first.status_code, first.json()["id"]) == (202, again.json()["id"])
    assert door.submit(key, callback={"url": url + "2"}).json()["code"] == "idempotency-key-reused"


def test_deliveries_are_listed_by_job_and_state_page_by_page(door: Door) -> None:
    with receiver() as server:
        jobs = [door.accepted(callback={"url": server.url()}) for _ in range(3)]
        for job in jobs:
            door.run(job["id"])
        eventually(lambda: len(deliveries(door, state="delivered")) == 3)
    assert [entry["job_id"] for entry in deliveries(door)] == [job["id"] for job in reversed(jobs)]
    assert [entry["job_id"] for entry in deliveries(door, job=jobs[1]["id"])] == [jobs[1]["id"]]
    assert deliveries(door, state="pending") == deliveries(door, job=str(uuid4())) == []
    first = door.http.get(f"{API}/deliveries?limit=2").json()
    second = door.http.get(f"{API}/deliveries?limit=2&cursor={first['next_cursor']}").json()
    assert first["deliveries"] + second["deliveries"] == deliveries(door)
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("deliveries?job=x", 422), ("deliveries?state=x", 422), ("deliveries?limit=0", 422),
        ("deliveries?cursor=x", 422), ("deliveries?cursor=-1", 422), ("deliveries?cursor=9223372036854775808", 422),
        ("deliveries/x", 404), ("deliveries/msg_x", 404), (f"deliveries/msg_{'0' * 32}", 404),
    ],
)  # fmt: skip
def test_what_is_not_there_or_cannot_be_read_is_told(outside_only: Door, path: str, status: int) -> None:
    assert outside_only.http.get(f"{API}/{path}").status_code == status


def test_other_tenants_see_no_deliveries_and_have_other_secrets(settings: Settings) -> None:
    keys = SecretStr("alice:alices-key,bob:bobs-key")
    alice, bob = ({"Authorization": f"Bearer {name}s-key"} for name in ("alice", "bob"))
    with front_door(settings, **WEBHOOKS, api_keys=keys) as door, receiver() as server:
        door.announce(card())
        job = door.submit(alice, callback={"url": server.url()}).json()["id"]
        door.run(job)
        (told,) = server.wait_for(1)

        def asked(who: dict[str, str], method: str, path: str) -> httpx.Response:
            return door.http.request(method, f"{API}/{path}", headers=who)

        assert asked(bob, "GET", "deliveries").json()["deliveries"] == []
        assert asked(bob, "GET", f"deliveries?job={job}").json()["deliveries"] == []
        assert asked(bob, "GET", f"deliveries/{told.id}").status_code == 404
        assert asked(bob, "POST", f"deliveries/{told.id}/replay").status_code == 404
        assert asked(alice, "GET", f"deliveries/{told.id}").status_code == 200
        for path in ("deliveries", f"deliveries/{told.id}", "secret"):
            assert asked({}, "GET", path).status_code == 401
        secrets = {name: asked(who, "GET", "secret").json()["secrets"] for name, who in (("a", alice), ("b", bob))}
    assert secrets["a"] == WebhookKeys(parse_secrets(f"{NEW},{OLD}")).of("alice")
    assert not set(secrets["a"]) & set(secrets["b"])
    assert told.verified(secrets["a"][0])
    with pytest.raises(Exception, match="No matching signature"):
        told.verified(secrets["b"][0])


def test_figures_tell_what_waits_and_how_tries_went(door: Door) -> None:
    with receiver(500, 204) as server:
        for _ in range(2):
            door.run(door.accepted(callback={"url": server.url()})["id"])
        server.wait_for(2)
        eventually(lambda: len(deliveries(door, state="delivered")) == 1)
        eventually(lambda: 'fleet_webhook_tries_total{state="pending"} 1.0' in door.http.get("/metrics").text)
        figures = door.http.get("/metrics").text
    assert 'fleet_webhook_tries_total{state="delivered"} 1.0' in figures
    assert "fleet_webhooks_pending 1.0" in figures
    assert "fleet_webhook_oldest_seconds" in figures
    assert len(deliveries(door, state=DeliveryState.PENDING.value)) == 1
