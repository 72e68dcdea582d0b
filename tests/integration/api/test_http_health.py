"""/livez, /readyz, /metrics, /api/v1/models."""

import re

import psycopg
import pytest
from pydantic import SecretStr

from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.servers import Servers


def test_ready_means_that_each_dependency_answers(door: Door) -> None:
    answer = door.http.get("/readyz")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/health+json"
    health = answer.json()
    assert health["status"] == "pass"
    assert {name: [check["status"] for check in checks] for name, checks in health["checks"].items()} == {
        "postgresql": ["pass"],
        "objects": ["pass"],
        "redis": ["pass"],
    }


def closed(settings: Settings, **changes: object) -> tuple[int, dict[str, object]]:
    """Status and body of /readyz with a dependency that nobody listens for."""
    with front_door(settings, **changes) as door:
        answer = door.http.get("/readyz")
        assert door.http.get("/livez").status_code == 200
    for secret in (settings.database_dsn, settings.minio_secret_key.get_secret_value()):
        assert secret not in answer.text
    return answer.status_code, answer.json()


def test_without_redis_it_is_ready_with_a_warning(settings: Settings) -> None:
    status, health = closed(settings, redis_url=SecretStr("redis://127.0.0.1:1/0"))
    assert (status, health["status"]) == (200, "warn")


def test_without_the_object_store_it_is_not_ready(settings: Settings) -> None:
    status, health = closed(settings, minio_endpoint="127.0.0.1:1")
    assert (status, health["status"]) == (503, "fail")


def test_without_postgresql_it_is_not_ready(settings: Settings) -> None:
    status, health = closed(settings, database_url=SecretStr("postgresql://fleet:hidden@127.0.0.1:1/fleet"))
    assert (status, health["status"]) == (503, "fail")
    assert "hidden" not in str(health)


def test_a_database_that_is_not_migrated_is_not_ready_and_every_call_says_so(servers: Servers) -> None:
    with servers.fresh() as settings:
        with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
            connection.execute("drop schema public cascade")
            connection.execute("create schema public")
        with front_door(settings) as door:
            answer = door.http.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["checks"]["postgresql"][0]["output"] == "database-not-migrated"
            jobs = door.http.get("/api/v1/jobs")
            assert (jobs.status_code, jobs.json()["code"]) == (503, "database-not-migrated")
            assert jobs.headers["retry-after"] == "2"


def figures(door: Door) -> dict[str, float]:
    text = door.http.get("/metrics").text
    return {name: float(value) for name, value in re.findall(r"^(fleet_\S+) (\S+)$", text, re.MULTILINE)}


def test_the_figures_tell_what_happened(door: Door) -> None:
    door.core.catalogue.announce_worker(worker_row())
    job = door.accepted()
    door.http.get(f"/api/v1/jobs/{job['id']}")
    door.http.get("/api/v1/jobs/x")
    door.http.get("/no/such/path")
    door.http.request("BREW", "/livez")
    found = figures(door)
    route = 'route="/api/v1/jobs/{job_id}"'
    assert found[f'fleet_http_requests_total{{method="GET",{route},status="200"}}'] == 1
    assert found[f'fleet_http_requests_total{{method="GET",{route},status="404"}}'] == 1
    assert found['fleet_http_requests_total{method="GET",route="unmatched",status="404"}'] == 1
    assert not [name for name in found if "BREW" in name]
    assert found['fleet_jobs_submitted_total{model="text",task="text-embedding"}'] == 1
    assert found['fleet_queue_jobs{queue="cpu.interactive.normal"}'] == 1
    assert found['fleet_queue_messages{queue="cpu.interactive.normal"}'] == 1
    assert found['fleet_queue_jobs{queue="gpu.bulk.low"}'] == 0
    assert found['fleet_workers_alive{pool="cpu"}'] == 1
    assert found["fleet_reconciler_leader"] in (0, 1)


def test_the_figures_come_without_the_servers_too(settings: Settings) -> None:
    with front_door(settings, redis_url=SecretStr("redis://127.0.0.1:1/0")) as door:
        found = figures(door)
    assert "fleet_publications_failed_total" in found
    assert not [name for name in found if name.startswith("fleet_queue_messages")]


def test_a_model_is_shown_with_its_versions_and_its_workers(door: Door) -> None:
    door.announce(card("text", version=3))
    door.core.catalogue.announce_worker(worker_row(models=["text/3"]))
    door.core.catalogue.announce_worker(worker_row("w2", models=["text/3"], draining=True))
    shown = door.http.get("/api/v1/models/text").json()
    assert (shown["version"], shown["versions"], shown["ready_workers"]) == (3, [1, 3], 1)
    assert set(shown) == {
        "name", "version", "versions", "task", "description", "licence", "accepts", "returns", "params_schema", "lane",
        "device", "size_bytes", "sha256", "labels", "execution_timeout_s", "deadline_s", "max_attempts", "expected_s",
        "ready_workers", "inputs", "outputs", "max_batch_size", "example", "aliases", "unloaded",
    }  # fmt: skip
    assert door.http.get("/api/v1/models/text?version=1").json()["ready_workers"] == 0
    listed = door.http.get("/api/v1/models").json()["models"]
    assert [(model["name"], model["version"]) for model in listed] == [("text", 3), ("volume", 1)]


@pytest.mark.parametrize("query", ["version=0", "version=x"])
def test_a_version_is_a_positive_number(shared_door: Door, query: str) -> None:
    answer = shared_door.http.get(f"/api/v1/models/text?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "?version")
