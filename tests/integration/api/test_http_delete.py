"""DELETE /api/v1/jobs/{id}: hidden at once, gone at once or soon, and nothing of it comes back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from fleet.contracts import Artifact, JobState
from fleet.errors import NotFound
from fleet.job_values import Ending
from fleet.objects import result_key
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door
from tests.support.tcp_proxy import Proxy, proxy_to
from tests.support.waiting import eventually


def ended(door: Door, *names: str, **body: Any) -> str:
    """A job that succeeded with such files."""
    job = door.accepted(**body)
    artifacts = [
        Artifact(
            name=name,
            object=door.core.objects.put_bytes(
                result_key(door.id(job["id"]), 1, name), b"mask", media_type="text/plain", name=name
            ),
        )
        for name in names
    ]
    door.run(job["id"], artifacts=artifacts)
    return str(job["id"])


def delete(door: Door, job_id: str) -> httpx.Response:
    return door.http.delete(f"/api/v1/jobs/{job_id}")


def upload(door: Door) -> dict[str, Any]:
    return dict(door.http.post("/api/v1/uploads?name=scan.nii", content=b"abc").json())


def is_gone(door: Door, job_id: str) -> bool:
    """The row, too."""
    try:
        door.core.jobs.get(door.id(job_id))
    except NotFound:
        return True
    return False


def test_an_ended_job_is_gone_with_all_it_stored(door: Door) -> None:
    ticket = upload(door)
    job_id = ended(door, "mask.nii.gz", inputs=[{"upload": ticket["id"]}])
    answer = delete(door, job_id)
    assert (answer.status_code, answer.content) == (204, b"")
    assert is_gone(door, job_id)
    assert door.core.objects.keys("results/") == door.core.objects.keys("uploads/") == []
    assert door.http.get(f"/api/v1/uploads/{ticket['id']}").status_code == 404


def test_nothing_of_a_deleted_job_is_found_and_a_second_delete_finds_nothing(door: Door) -> None:
    job_id = ended(door, "mask.nii.gz")
    assert delete(door, job_id).status_code == 204
    path = f"/api/v1/jobs/{job_id}"
    for method, below in (
        ("GET", ""),
        ("GET", "/result"),
        ("GET", "/artifacts/mask.nii.gz"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ):
        answer = door.http.request(method, path + below)
        assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found"), below
    assert door.http.get("/api/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize("job_id", ["nonsense", "0199a5c0-0000-7000-8000-000000000000"])
def test_what_is_unknown_cannot_be_deleted(door: Door, job_id: str) -> None:
    answer = delete(door, job_id)
    assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")


def test_a_queued_job_is_cancelled_and_gone(door: Door) -> None:
    job = door.accepted()
    assert delete(door, job["id"]).status_code == 204
    assert is_gone(door, job["id"])
    assert door.core.jobs.claim(door.id(job["id"]), "w", 30.0) is None


def test_a_running_job_is_hidden_and_goes_when_it_has_stopped(settings: Settings) -> None:
    with front_door(settings, reconcile_every_s=0.1) as door:
        door.announce(card())
        ticket = upload(door)
        job = door.accepted(inputs=[{"upload": ticket["id"]}])
        claim = door.core.jobs.claim(door.id(job["id"]), "w", 30.0)
        assert claim is not None
        answer = delete(door, job["id"])
        assert (answer.status_code, answer.content) == (202, b"")
        assert door.http.get(f"/api/v1/jobs/{job['id']}").status_code == 404
        assert not is_gone(door, job["id"])
        assert door.core.objects.keys("uploads/") != []
        assert door.core.jobs.stop(claim.job, JobState.CANCELLED, None, Ending({}, None))
        eventually(lambda: is_gone(door, job["id"]))
        assert door.core.objects.keys("uploads/") == []


def test_the_key_of_a_deleted_job_makes_a_new_job(door: Door) -> None:
    headers = {"idempotency-key": "k"}
    first = door.submit(headers).json()
    assert door.submit(headers).json()["id"] == first["id"]
    assert door.core.jobs.claim(door.id(first["id"]), "w", 30.0) is not None
    # Hidden only: the row is there while its worker stops.
    assert delete(door, first["id"]).status_code == 202
    second = door.submit(headers)
    assert (second.status_code, second.json()["id"] != first["id"]) == (202, True)
    assert "idempotency-replayed" not in second.headers


def test_an_upload_that_another_job_uses_stays(door: Door) -> None:
    ticket = upload(door)
    first, second = (ended(door, inputs=[{"upload": ticket["id"]}]) for _ in range(2))
    assert delete(door, first).status_code == 204
    assert door.http.get(f"/api/v1/uploads/{ticket['id']}").status_code == 200
    assert len(door.core.objects.keys("uploads/")) == 1
    assert delete(door, second).status_code == 204
    assert door.http.get(f"/api/v1/uploads/{ticket['id']}").status_code == 404


def test_an_upload_of_a_deleted_job_cannot_be_submitted(door: Door) -> None:
    ticket = upload(door)
    assert delete(door, ended(door, inputs=[{"upload": ticket["id"]}])).status_code == 204
    answer = door.submit(inputs=[{"upload": ticket["id"]}])
    assert (answer.status_code, answer.json()["code"]) == (404, "upload-not-found")


def test_a_deleted_result_is_no_input(door: Door) -> None:
    job_id = ended(door, "mask.nii.gz")
    key = door.core.jobs.get(door.id(job_id)).artifacts[0].object.key
    assert delete(door, job_id).status_code == 204
    answer = door.submit(inputs=[{"object": {"bucket": door.core.objects.bucket, "key": key}}])
    assert (answer.status_code, answer.json()["code"]) == (404, "object-not-found")


def test_who_waits_for_a_job_hears_that_it_was_deleted(door: Door) -> None:
    job = door.accepted()
    assert door.core.jobs.claim(door.id(job["id"]), "w", 30.0) is not None

    def wait() -> httpx.Response:
        return httpx.get(
            f"{door.url}/api/v1/jobs/{job['id']}", headers={"prefer": "wait=60"}, timeout=90, trust_env=False
        )

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait)
        eventually(lambda: door.core.waiters._bells)
        assert delete(door, job["id"]).status_code == 202
        answer = waiting.result()
    assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")


def test_a_tenant_cannot_delete_the_job_of_another(settings: Settings) -> None:
    with front_door(settings, api_keys=SecretStr("a:key-of-a,b:key-of-b")) as door:
        door.announce(card())
        job_id = door.submit({"x-api-key": "key-of-a"}).json()["id"]
        path = f"/api/v1/jobs/{job_id}"
        for method, where in (("DELETE", path), ("POST", f"{path}/retry")):
            answer = door.http.request(method, where, headers={"x-api-key": "key-of-b"})
            assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")
        assert door.http.delete(path, headers={"x-api-key": "key-of-a"}).status_code == 204


@pytest.fixture
def store_link(settings: Settings) -> Iterator[Proxy]:
    with proxy_to(int(settings.minio_endpoint.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.mark.parametrize("fault", ["cut", "swallow"])
def test_with_the_object_store_away_a_job_is_hidden_at_once_and_swept_later(
    settings: Settings, store_link: Proxy, fault: str
) -> None:
    endpoint = f"127.0.0.1:{store_link.port}"
    with front_door(settings, minio_endpoint=endpoint, reconcile_every_s=0.1) as door:
        door.announce(card())
        job_id = ended(door, "mask.nii.gz", inputs=[{"upload": upload(door)["id"]}])
        plain = ended(door)
        getattr(store_link, fault)()
        assert delete(door, job_id).status_code == 202
        assert door.http.get(f"/api/v1/jobs/{job_id}").status_code == 404
        assert delete(door, job_id).status_code == 404
        # What needs no object store does not wait for it.
        assert delete(door, plain).status_code == 204
        assert not is_gone(door, job_id)
        store_link.release() if fault == "swallow" else store_link.mend()
        eventually(lambda: is_gone(door, job_id))
        assert door.core.objects.keys("results/") == door.core.objects.keys("uploads/") == []


def test_a_store_that_hangs_holds_up_neither_deletes_nor_anything_else(settings: Settings, store_link: Proxy) -> None:
    with front_door(settings, minio_endpoint=f"127.0.0.1:{store_link.port}") as door:
        door.announce(card())
        job_ids = [ended(door, "mask.nii.gz") for _ in range(12)]
        store_link.swallow()
        with ThreadPoolExecutor(12) as threads:
            answers = list(threads.map(lambda job_id: delete(door, job_id).status_code, job_ids))
        assert answers == [202] * 12
        assert door.submit().status_code == 202
        store_link.release()


def test_with_the_record_away_a_delete_says_so(settings: Settings) -> None:
    port = int(settings.database_dsn.rpartition(":")[2].partition("/")[0])
    with proxy_to(port) as proxy:
        through = settings.database_dsn.replace(f":{port}/", f":{proxy.port}/")
        with front_door(settings, database_url=SecretStr(through)) as door:
            door.announce(card())
            job_id = ended(door)
            proxy.cut()
            answer = delete(door, job_id)
            assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
            proxy.mend()
            eventually(lambda: delete(door, job_id).status_code == 204)


def test_a_job_says_when_it_will_be_swept_and_goes_then(settings: Settings) -> None:
    with front_door(settings) as door:
        door.announce(card())
        short, long = ended(door, retention_s=0.01), ended(door, retention_s=86400)
        told = door.http.get(f"/api/v1/jobs/{long}").json()
        assert told["expires_at"][:10] > told["finished_at"][:10]
        eventually(lambda: (door.core.sweeper.expire(), is_gone(door, short))[1])
        assert not is_gone(door, long)


def test_a_fleet_keeps_jobs_as_long_as_its_settings_say(settings: Settings) -> None:
    with front_door(settings, job_retention_s=0.01) as door:
        door.announce(card())
        job_id, kept = ended(door, "mask.nii.gz"), ended(door, retention_s=3600)
        eventually(lambda: (door.core.sweeper.expire(), is_gone(door, job_id))[1])
        assert not is_gone(door, kept)
        with psycopg.connect(settings.database_dsn) as connection:
            row = connection.execute("select count(*) from job").fetchone()
        assert row == (1,)


def test_the_front_doors_own_sweeper_works_without_being_asked(settings: Settings) -> None:
    with front_door(settings, reconcile_every_s=0.1, job_retention_s=0.001) as door:
        door.announce(card())
        job_id = ended(door, "mask.nii.gz")
        eventually(lambda: is_gone(door, job_id))
        eventually(lambda: "fleet-record" in door.core.objects.keys(""))
        figures = door.http.get("/metrics").text
    assert 'fleet_reconciler_actions_total{action="job-removed"} 1.0' in figures
    assert "fleet_sweep_lag_seconds" in figures
