"""Servers that go away while the front door is open."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door
from tests.support.tcp_proxy import Proxy, proxy_to
from tests.support.waiting import eventually


@contextmanager
def door_through(settings: Settings, server: str, reconcile_every_s: float = 0.1) -> Iterator[tuple[Door, Proxy]]:
    """A front door that meets one of its servers through a proxy."""
    url = {
        "redis": settings.redis_url.get_secret_value(),
        "postgresql": settings.database_dsn,
        "objects": f"http://{settings.minio_endpoint}",
    }[server]
    port = urlsplit(url).port
    assert port is not None
    with proxy_to(port) as proxy:
        through = url.replace(f":{port}", f":{proxy.port}")
        change: dict[str, object] = {
            "redis": {"redis_url": SecretStr(through)},
            "postgresql": {"database_url": SecretStr(through)},
            "objects": {"minio_endpoint": through.removeprefix("http://")},
        }[server]
        with front_door(settings, reconcile_every_s=reconcile_every_s, **change) as door:
            door.announce(card())
            yield door, proxy


def test_without_redis_a_job_is_accepted_and_published_when_it_is_back(settings: Settings) -> None:
    with door_through(settings, "redis") as (door, proxy):
        proxy.cut()
        job = door.accepted()
        assert door.http.get("/readyz").json()["status"] == "warn"
        assert door.http.post(f"/api/v1/jobs/{door.accepted()['id']}/cancel").status_code == 200
        proxy.mend()
        eventually(lambda: door.core.broker.depths([job["queue"]])[job["queue"]] == 1)
    assert door.core.measures.registry.get_sample_value("fleet_publications_failed_total") == 2


def test_while_redis_hangs_one_caller_tries_and_the_others_leave_it_to_the_reconciler(settings: Settings) -> None:
    with door_through(settings, "redis", reconcile_every_s=600.0) as (door, proxy):
        proxy.swallow()
        # Redis is asked for the first of them. The sequence number grows when a job was published in vain.
        jobs = [door.accepted()["id"] for _ in range(5)]
        rows = {str(row["id"]): row for row in door.core.database.run("select id, published_at, publish_seq from job")}
        assert [rows[job]["published_at"] for job in jobs] == [None] * 5
        sequence = [rows[job]["publish_seq"] for job in jobs]
        assert sequence[0] == 2
        assert sequence[1] == 1
        assert door.core.measures.registry.get_sample_value("fleet_publications_failed_total") == 5
        proxy.release()
        queue = door.core.jobs.get(door.id(jobs[0])).queue
        eventually(lambda: door.core.reconciler.tick() or door.core.broker.depths([queue])[queue] >= 5)


def test_a_job_that_redis_hangs_for_can_be_cancelled_and_its_waiter_is_told(settings: Settings) -> None:
    with door_through(settings, "redis") as (door, proxy):
        job = door.accepted()["id"]
        proxy.swallow()
        assert door.http.post(f"/api/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
        assert door.http.get(f"/api/v1/jobs/{job}", headers={"Prefer": "wait=30"}).json()["state"] == "cancelled"


def test_without_postgresql_the_answer_is_503_and_says_when_to_come_back(settings: Settings) -> None:
    with door_through(settings, "postgresql") as (door, proxy):
        job = door.accepted()
        proxy.cut()
        for answer in (
            door.submit(),
            door.submit(model="another"),
            door.http.get(f"/api/v1/jobs/{job['id']}"),
            door.http.get("/api/v1/jobs"),
            door.http.get("/api/v1/models"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["retry_after"] >= 1
        assert door.http.get("/livez").status_code == 200
        assert door.http.get("/readyz").status_code == 503
        # Nothing of what was refused is found later.
        proxy.mend()
        eventually(lambda: door.http.get("/api/v1/jobs").status_code == 200)
        assert [shown["id"] for shown in door.http.get("/api/v1/jobs").json()["jobs"]] == [job["id"]]
        eventually(lambda: door.submit().status_code == 202)


def test_connections_that_postgresql_ends_cost_no_request(settings: Settings) -> None:
    with door_through(settings, "postgresql") as (door, proxy):
        job = door.accepted()
        proxy.drop()
        assert door.http.get(f"/api/v1/jobs/{job['id']}").status_code == 200
        assert door.submit().status_code == 202


def test_without_the_object_store_uploads_fail_and_small_jobs_do_not(settings: Settings) -> None:
    with door_through(settings, "objects") as (door, proxy):
        ticket = door.http.post("/api/v1/uploads", json={"name": "a", "size": 3}).json()
        proxy.cut()
        for answer in (
            door.http.post("/api/v1/uploads?name=a", content=b"abc"),
            door.submit(inputs=[{"upload": ticket["id"]}]),
            door.http.delete(f"/api/v1/uploads/{ticket['id']}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "object-store-unavailable")
            assert "retry-after" in answer.headers
        assert door.submit().status_code == 202
        proxy.mend()
        # The removal was begun: nobody can use the upload, and the sweeper ends it.
        assert door.submit(inputs=[{"upload": ticket["id"]}]).status_code == 404
        door.core.reconciler.sweep_uploads()
        assert door.core.database.run("select from upload") == []


def test_without_redis_the_overview_misses_only_what_redis_knows(settings: Settings) -> None:
    with door_through(settings, "redis") as (door, proxy):
        door.accepted()
        eventually(lambda: [queue["published"] for queue in overview(door, "queues")["queues"]] == [1])
        proxy.cut()
        page = overview(door, "queues")
        assert page["unavailable"] == ["redis"]
        assert [(queue["messages"], queue["published"]) for queue in page["queues"]] == [(None, 1)]
        assert overview(door, "fleet")["unavailable"] == []


def test_without_the_record_the_overview_shows_what_redis_knows(settings: Settings) -> None:
    with door_through(settings, "postgresql") as (door, proxy):
        name = door.accepted()["queue"]
        proxy.cut()
        page = overview(door, "queues")
        assert page["unavailable"] == ["postgresql"]
        assert [(queue["name"], queue["messages"]) for queue in page["queues"]] == [(name, 1)]
        fleet = overview(door, "fleet")
        assert (fleet["workers"], fleet["running"], fleet["unavailable"]) == (None, None, ["postgresql"])


def overview(door: Door, what: str) -> dict[str, Any]:
    answer = door.http.get(f"/api/v1/monitoring/{what}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
