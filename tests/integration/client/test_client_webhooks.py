"""Webhooks through the client and the command, against the real front door and a receiver."""

import json
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from pydantic import SecretStr

from cli.main import run
from fleet.settings import Settings
from fleet_client import Callback, Client, InvalidRequest, NotFound
from tests.support.front_door import Door, card, front_door
from tests.support.receiver import Receiver, receiver
from tests.support.waiting import eventually

ENDINGS = ["job.succeeded", "job.failed", "job.cancelled", "job.expired"]


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    secrets, networks = SecretStr("whsec_" + "a" * 48), [ip_network("127.0.0.0/8")]
    with front_door(settings, webhook_secrets=secrets, outward_allow_networks=networks) as running:
        running.announce(card())
        yield running


@pytest.fixture
def fleet(door: Door) -> Iterator[Client]:
    with Client(door.url) as client:
        yield client


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def delivered(fleet: Client, job_id: str, count: int = 1) -> str:
    """The id of the newest delivery of a job, once it arrived so often."""
    eventually(lambda: [d.tries for d in fleet.webhook_deliveries(job=job_id, state="delivered")] == [count])
    (delivery,) = fleet.webhook_deliveries(job=job_id)
    return delivery.id


def test_a_job_submitted_with_a_url_tells_of_its_end(door: Door, fleet: Client, server: Receiver) -> None:
    job = fleet.submit(None, [b"hello"], model="text", callback=server.url())
    assert job.record.callback == Callback(url=server.url(), events=ENDINGS)
    door.run(job.id)
    (told,) = server.wait_for(1)
    delivery = fleet.webhook_delivery(delivered(fleet, job.id))
    assert (delivery.id, delivery.job_id, delivery.type) == (told.id, job.id, "job.succeeded")
    assert [entry.status for entry in delivery.history] == [204]
    (secret,) = fleet.webhook_secrets()
    assert told.verified(secret)["data"]["job_id"] == job.id

    assert fleet.replay_webhook(told.id).id == told.id
    server.wait_for(2)
    delivered(fleet, job.id, 2)


def test_a_receiver_of_runpods_gets_the_job_in_runpods_form(door: Door, fleet: Client, server: Receiver) -> None:
    wanted = Callback(url=server.url(), body="runpod")
    job = fleet.submit(None, [b"hello"], model="text", callback=wanted)
    assert job.record.callback == Callback(url=server.url(), events=ENDINGS, body="runpod")
    door.run(job.id)
    (told,) = server.wait_for(1)
    assert (told.headers["content-type"], json.loads(told.body)["status"]) == ("application/json", "COMPLETED")


def test_deliveries_are_listed_over_all_pages(door: Door, fleet: Client, server: Receiver) -> None:
    wanted = Callback(url=server.url(), events=["job.cancelled"])
    jobs = [fleet.submit(None, [b"hello"], model="text", callback=wanted).cancel() for _ in range(5)]
    assert [d.job_id for d in fleet.webhook_deliveries(page_size=2)] == [job.id for job in reversed(jobs)]
    with pytest.raises(NotFound, match="no webhook delivery"):
        fleet.webhook_delivery("msg_x")


def test_a_callback_is_part_of_what_a_key_stands_for(fleet: Client) -> None:
    url = "https://receiver.example/hook"
    big = bytes(70_000)  # Uploaded anew each time, so that the bodies differ.
    first = fleet.submit(None, [big], model="text", callback=url, idempotency_key="k")
    assert fleet.submit(None, [big], model="text", callback=url, idempotency_key="k").id == first.id
    for spelled in ("HTTPS://Receiver.example:443/hook", Callback(url=url, events=[*ENDINGS, *ENDINGS])):
        assert fleet.submit(None, [big], model="text", callback=spelled, idempotency_key="k").id == first.id
    others = Callback(url=url, events=["job.failed"]), Callback(url=url, body="runpod")
    for other in (None, url + "2", "https://[", *others):
        with pytest.raises(InvalidRequest) as refused:
            fleet.submit(None, [big], model="text", callback=other, idempotency_key="k")
        assert refused.value.code == "idempotency-key-reused"


def test_the_command_submits_lists_shows_and_replays(
    door: Door,
    fleet: Client,
    server: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path,
) -> None:
    monkeypatch.setenv("FLEET_URL", door.url)

    def said(*arguments: str, code: int = 0) -> str:
        assert run(arguments) == code
        return capsys.readouterr().out

    (tmp_path / "in.txt").write_text("hello")
    submit = ["submit", "text-embedding", str(tmp_path / "in.txt"), "-m", "text", "--no-wait"]
    capsys.readouterr()
    callback = ["--callback", server.url(), "--callback-event", "job.succeeded", "--callback-body", "runpod"]
    job = said(*submit, *callback).split()[-1]
    door.run(job)
    (told,) = server.wait_for(1)
    assert told.json["status"] == "COMPLETED"
    delivered(fleet, job)

    def shown(*arguments: str) -> str:
        """Without the log of the door, which runs in this process."""
        return said("webhooks", *arguments)

    listed = shown("list", "--job", job)
    assert told.id in listed
    assert server.url() in listed
    assert "delivered" in listed
    text = shown("show", told.id, "--json")
    assert json.loads(text[text.index("{\n") :])["history"][0]["status"] == 204
    assert "204" in shown("show", told.id)
    assert fleet.webhook_secrets()[0] in shown("secret")
    assert told.id in shown("replay", told.id)
    server.wait_for(2)
    for option, value in (("--callback-event", "job.failed"), ("--callback-body", "runpod")):
        assert run([*submit, option, value]) == 2
    assert run(["webhooks", "show", "msg_x"]) == 3
