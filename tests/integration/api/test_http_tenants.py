"""API keys, and the walls between tenants."""

from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from fleet.contracts import Artifact
from fleet.keys import digest
from fleet.objects import result_key
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door

ALICE = {"Authorization": "Bearer alices-key"}
BOB = {"X-API-Key": "bobs-key"}


@pytest.fixture
def guarded(settings: Settings) -> Iterator[Door]:
    keys = SecretStr(f"alice:alices-key,bob:sha256:{digest('bobs-key')}")
    with front_door(settings, api_keys=keys) as door:
        door.announce(card())
        yield door


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic alices-key"},
        {"X-API-Key": ""},
        {"X-API-Key": digest("bobs-key")},
    ],
)
def test_without_a_known_key_nothing_is_answered(guarded: Door, headers: dict[str, str]) -> None:
    paths = ["/api/v1/jobs", "/api/v1/models", "/api/v1/jobs/x", "/api/v1/uploads/x"]
    answers = [guarded.http.get(path, headers=headers) for path in paths]
    answers.append(guarded.http.post("/api/v1/jobs", content=b"not even JSON", headers=headers))
    answers.append(guarded.http.post("/api/v1/uploads", content=b"abc", headers=headers))
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "wrong" not in answer.text


def test_each_form_of_a_key_opens_its_tenant(guarded: Door) -> None:
    for headers in (ALICE, BOB, {"Authorization": "bearer bobs-key"}, {"X-API-Key": "alices-key"}):
        assert guarded.http.get("/api/v1/jobs", headers=headers).status_code == 200


def test_health_and_the_document_need_no_key(guarded: Door) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/docs"):
        assert guarded.http.get(path).status_code == 200


def test_a_tenant_sees_nothing_of_another(guarded: Door) -> None:
    upload = guarded.http.post("/api/v1/uploads?name=a", content=b"abc", headers=ALICE).json()
    job = guarded.submit(ALICE, inputs=[{"upload": upload["id"]}]).json()["id"]
    key = result_key(guarded.id(job), 1, "out")
    reference = guarded.core.objects.put_bytes(key, b"abc", media_type="text/plain", name="out")
    guarded.run(job, artifacts=[Artifact(name="out", object=reference)])

    def as_bob(method: str, path: str) -> httpx.Response:
        return guarded.http.request(method, f"/api/v1/{path}", headers=BOB)

    assert as_bob("GET", "jobs").json()["jobs"] == []
    refused = [
        as_bob("GET", f"jobs/{job}"),
        as_bob("GET", f"jobs/{job}/result"),
        as_bob("GET", f"jobs/{job}/artifacts/out"),
        as_bob("POST", f"jobs/{job}/cancel"),
        as_bob("GET", f"uploads/{upload['id']}"),
        as_bob("PUT", f"uploads/{upload['id']}/content"),
        as_bob("DELETE", f"uploads/{upload['id']}"),
        guarded.submit(BOB, inputs=[{"upload": upload["id"]}]),
        guarded.submit(BOB, inputs=[{"object": {"bucket": reference.bucket, "key": key}}]),
    ]
    assert [answer.status_code for answer in refused] == [404] * len(refused)
    stolen = {field: upload["object"][field] for field in ("bucket", "key")}
    foreign = guarded.submit(BOB, inputs=[{"object": stolen}])
    assert (foreign.status_code, foreign.json()["code"]) == (422, "foreign-object")
    assert guarded.http.get(f"/api/v1/jobs/{job}", headers=ALICE).json()["state"] == "succeeded"


def test_the_same_idempotency_key_of_two_tenants_is_two_jobs(guarded: Door) -> None:
    key = {"Idempotency-Key": "same"}
    first, second = guarded.submit(ALICE | key), guarded.submit(BOB | key)
    assert first.json()["id"] != second.json()["id"]
    assert "idempotency-replayed" not in second.headers
