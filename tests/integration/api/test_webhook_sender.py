"""The sender when things go wrong: slow, hanging and lying receivers, a killed process, several processes at once."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from api.measures import Measures
from api.webhook_bodies import WebhookBodies
from api.webhook_sender import MAX_TRIES, MAX_TRIES_PER_HOST, WebhookSender
from fleet.addresses import Reach
from fleet.contracts import Callback, Job
from fleet.database import Database
from fleet.job_values import Ending
from fleet.jobs import JobStore
from fleet.outward import Outward
from fleet.settings import Settings
from fleet.webhook_keys import WebhookKeys
from fleet.webhook_values import ENDINGS, Delivery, DeliveryState
from fleet.webhooks import WebhookStore
from tests.support.fleet_of_one import environment_of, new_job
from tests.support.front_door import card, front_door
from tests.support.receiver import Holding, receiver
from tests.support.waiting import eventually

KEYS = WebhookKeys([b"s" * 32])
LOOPBACK = Reach([ip_network("127.0.0.0/8")])


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


@pytest.fixture
def store(database: Database) -> WebhookStore:
    return WebhookStore(database)


def unasked(job_id: UUID, tenant: str) -> Job:
    raise AssertionError(f"Fleet's own body is made without its job, and not of {job_id} of {tenant}")


@contextmanager
def sending(
    store: WebhookStore, outward: Outward | None = None, *, timeout_s: float = 20.0, keys: WebhookKeys = KEYS
) -> Iterator[WebhookSender]:
    sender = WebhookSender(
        store=store,
        keys=keys,
        outward=outward or Outward(LOOPBACK),
        measures=Measures(),
        bodies=WebhookBodies(unasked, None),
        timeout_s=timeout_s,
        retention_s=86400.0,
    )
    sender.start()
    try:
        yield sender
    finally:
        sender.close()


def ended(database: Database, url: str, count: int = 1) -> None:
    """Jobs that ended, each to be told at the URL."""
    jobs = JobStore(database)
    for _ in range(count):
        new = new_job(callback=Callback(url=url, events=list(ENDINGS)))
        claim = jobs.claim(jobs.submit(new).job.id, "w1", 30.0)
        assert claim is not None
        assert jobs.finish(claim.job, result={}, artifacts=[], inputs=[], ending=Ending({}, None))


def found(store: WebhookStore, **where: Any) -> list[Delivery]:
    return store.page("default", limit=500, **where)


def leases_lapse(database: Database) -> None:
    """As if the time of every lease and pause had passed."""
    database.run("update webhook_delivery set due_at = clock_timestamp() where state = 'pending'")


def test_a_receiver_that_hangs_delays_no_other(database: Database, store: WebhookStore) -> None:
    hold = Holding()
    with receiver(hold) as hanging, receiver() as live, sending(store) as sender:
        ended(database, hanging.url(), 20)
        hanging.wait_for(MAX_TRIES_PER_HOST)
        ended(database, live.url(), 40)
        sender.wake()
        live.wait_for(40)
        eventually(lambda: len(found(store, state=DeliveryState.DELIVERED)) == 40)
        assert len(hanging.received) == MAX_TRIES_PER_HOST
        assert [delivery.tries for delivery in found(store, state=DeliveryState.PENDING)].count(1) == MAX_TRIES_PER_HOST
        hold.let_go()
        eventually(lambda: not found(store, state=DeliveryState.PENDING))


def test_tries_at_once_are_bounded(database: Database, store: WebhookStore) -> None:
    hold = Holding()
    outward = Outward(LOOPBACK, resolve=lambda host, port: ["127.0.0.1"])
    with receiver(hold) as hanging, sending(store, outward) as sender:
        for number in range(MAX_TRIES + 4):
            ended(database, hanging.url(host=f"h{number}.test"))
        sender.wake()
        hanging.wait_for(MAX_TRIES)
        sender.wake()
        assert sum(delivery.tries for delivery in found(store)) == len(hanging.received) == MAX_TRIES
        hold.let_go()
        eventually(lambda: not found(store, state=DeliveryState.PENDING))


def test_several_senders_never_try_the_same_at_once(database: Database, store: WebhookStore) -> None:
    with receiver() as server, sending(store), sending(store), sending(store):
        ended(database, server.url(), 60)
        eventually(lambda: len(found(store, state=DeliveryState.DELIVERED)) == 60)
        assert len(server.received) == len({told.id for told in server.received}) == 60
    assert {delivery.tries for delivery in found(store)} == {1}


def test_a_sender_that_was_killed_is_followed_by_another(
    settings: Settings, database: Database, store: WebhookStore, tmp_path: Path
) -> None:
    hold = Holding()
    environment = environment_of(
        settings,
        API_PORT="0",
        WEBHOOK_SECRETS="whsec_" + "a" * 48,
        OUTWARD_ALLOW_NETWORKS="127.0.0.0/8",
    )
    command = [sys.executable, "-m", "api"]
    with receiver(hold, 204) as server:
        ended(database, server.url())
        with (tmp_path / "api.log").open("wb") as log:
            api = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
            try:
                server.wait_for(1)
            finally:
                os.kill(api.pid, signal.SIGKILL)
                api.wait()
        with sending(store):
            assert found(store)[0].tries == 1
            leases_lapse(database)
            first, second = server.wait_for(2)
            eventually(lambda: found(store)[0].state is DeliveryState.DELIVERED)
        hold.let_go()
    assert (first.id, first.body) == (second.id, second.body)
    lost, won = store.tries(found(store)[0].id)
    assert (lost.took_ms, lost.status) == (None, None)
    assert won.status == 204


def test_a_process_stops_while_a_receiver_hangs(settings: Settings, database: Database, tmp_path: Path) -> None:
    hold = Holding()
    with receiver(hold) as server:
        ended(database, server.url())
        environment = environment_of(
            settings, API_PORT="0", WEBHOOK_SECRETS="whsec_" + "a" * 48, OUTWARD_ALLOW_NETWORKS="127.0.0.0/8",
            WEBHOOK_TIMEOUT_S="60",
        )  # fmt: skip
        with (tmp_path / "api.log").open("wb") as log:
            api = subprocess.Popen([sys.executable, "-m", "api"], env=environment, cwd=tmp_path, stdout=log, stderr=log)
            try:
                server.wait_for(1)
                api.terminate()
                # Long before the receiver's minute is over.
                assert api.wait(30) == 0
            finally:
                if api.poll() is None:
                    api.kill()
                    api.wait()
        hold.let_go()


def test_a_name_that_leads_inside_later_is_refused_then(database: Database, store: WebhookStore) -> None:
    answers: list[Sequence[str]] = [["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"]]
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    with receiver(500) as server, sending(store, Outward(LOOPBACK, resolve=rebinding)) as sender:
        ended(database, server.url(host="rebinds.test"))
        eventually(lambda: len(recorded(store)) == 1)
        leases_lapse(database)
        sender.wake()
        eventually(lambda: len(recorded(store)) == 2)
        leases_lapse(database)
        sender.wake()
        eventually(lambda: len(recorded(store)) == 3)
        assert [told.headers["host"] for told in server.received] == [f"rebinds.test:{server.port}"] * 2
    statuses = [(entry.status, str(entry.error).partition(":")[0]) for entry in recorded(store)]
    assert statuses == [(500, "answered 500"), (500, "answered 500"), (None, "address-refused")]
    assert asked == ["rebinds.test"] * 3


def recorded(store: WebhookStore) -> list[Any]:
    deliveries = found(store)
    return [entry for entry in store.tries(deliveries[0].id) if entry.took_ms is not None] if deliveries else []


def test_a_receiver_that_takes_too_long_is_a_failed_try(database: Database, store: WebhookStore) -> None:
    hold = Holding()
    with receiver(hold) as server, sending(store, timeout_s=0.3):
        ended(database, server.url())
        eventually(lambda: recorded(store))
        hold.let_go()
    (entry,) = recorded(store)
    assert (entry.status, str(entry.error).partition(":")[0]) == (None, "timed-out")
    assert found(store)[0].state is DeliveryState.PENDING


@pytest.mark.parametrize("told", ["soon", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "9" * 5000])
def test_a_retry_after_that_is_no_time_is_a_failed_try_and_no_loop(
    database: Database, store: WebhookStore, told: str
) -> None:
    with receiver((503, {"Retry-After": told})) as server, sending(store):
        ended(database, server.url())
        eventually(lambda: recorded(store))
    (entry,) = recorded(store)
    assert (entry.status, found(store)[0].state) == (503, DeliveryState.PENDING)


def test_a_fault_of_ours_is_a_failed_try_and_no_loop(database: Database, store: WebhookStore) -> None:
    with receiver() as server:
        ended(database, server.url())
        database.run("update webhook_delivery set data = '{}'")
        with sending(store):
            eventually(lambda: recorded(store))
        assert server.received == []
    (entry,) = recorded(store)
    assert str(entry.error).startswith("internal-error")


def test_without_secrets_nothing_is_sent_and_what_waited_for_days_is_given_up(
    database: Database, store: WebhookStore
) -> None:
    with receiver() as server:
        ended(database, server.url("/old"))
        database.run("update webhook_delivery set due_at = due_at - interval '5 days'")
        ended(database, server.url("/new"))
        with sending(store, keys=WebhookKeys([])):
            eventually(lambda: found(store, state=DeliveryState.FAILED))
        assert [delivery.state.value for delivery in found(store)] == ["pending", "failed"]
        assert server.received == []


def test_old_deliveries_are_forgotten_by_and_by(database: Database, store: WebhookStore) -> None:
    with receiver() as server, sending(store):
        ended(database, server.url())
        eventually(lambda: found(store, state=DeliveryState.DELIVERED))
    database.run("update webhook_delivery set ended_at = ended_at - interval '2 days'")
    with sending(store):
        eventually(lambda: found(store) == [])


def test_no_log_has_a_path_a_body_or_a_secret(
    database: Database, store: WebhookStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiver(500) as server, sending(store):
        ended(database, server.url("/secret-path?token=secret-token"))
        eventually(lambda: recorded(store))
        signature = server.received[0].headers["webhook-signature"]
    said = capsys.readouterr()
    assert "webhook tried" in said.out + said.err
    for hidden in ("secret-path", "secret-token", signature, *KEYS.of("default"), "specversion"):
        assert hidden not in said.out + said.err


def test_a_job_does_not_wait_for_its_receiver(settings: Settings) -> None:
    hold = Holding()
    changes: dict[str, Any] = {
        "webhook_secrets": SecretStr("whsec_" + "a" * 48),
        "outward_allow_networks": [ip_network("127.0.0.0/8")],
    }
    with front_door(settings, **changes) as door, receiver(hold) as server:
        door.announce(card())
        events = ["job.started", "job.succeeded"]
        first = door.accepted(callback={"url": server.url(), "events": events})
        door.run(first["id"])
        server.wait_for(MAX_TRIES_PER_HOST)
        # The receiver holds every try from here on.
        jobs = [door.accepted(callback={"url": server.url(), "events": events}) for _ in range(10)]
        for job in jobs:
            worker = threading.Timer(0.05, door.run, [job["id"]])
            worker.start()
            answer = door.http.get(f"/api/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"})
            worker.join()
            assert answer.json()["state"] == "succeeded"
        assert len(server.received) == MAX_TRIES_PER_HOST
        assert json.loads(door.http.get("/readyz").content)["status"] == "pass"
        hold.let_go()
