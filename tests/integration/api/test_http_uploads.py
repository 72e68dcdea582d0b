"""/api/v1/uploads: presigned, in parts, through the API, and in one body."""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from api import tickets
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door

MIB = 1024 * 1024


@pytest.fixture
def proxy_door(settings: Settings) -> Iterator[Door]:
    """All bytes go through the API."""
    with front_door(settings, object_access="proxy", max_body_bytes=64 * 1024) as door:
        door.announce(card())
        yield door


def announced(door: Door, data: bytes, **changes: Any) -> dict[str, Any]:
    body = {"name": "scan.nii.gz", "size": len(data), "sha256": sha256(data), "media_type": "application/gzip"}
    answer = door.http.post("/api/v1/uploads", json={**body, **changes})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def stored(door: Door, ticket: dict[str, Any]) -> bytes:
    reference = door.core.tickets.get(door.id(ticket["id"]), "default").object
    return b"".join(door.core.objects.stream(reference))


def use(door: Door, ticket: dict[str, Any]) -> httpx.Response:
    return door.submit(inputs=[{"upload": ticket["id"]}])


def test_a_ticket_has_the_documented_form(door: Door) -> None:
    ticket = announced(door, b"abc")
    assert set(ticket) == {"id", "state", "object", "method", "url", "headers", "parts", "expires_at"}
    assert ticket["state"] == "pending"
    assert ticket["object"] == {
        "bucket": door.core.objects.bucket,
        "key": f"uploads/default/{ticket['id']}/scan.nii.gz",
        "size": 3,
        "sha256": sha256(b"abc"),
        "media_type": "application/gzip",
        "name": "scan.nii.gz",
    }
    assert (ticket["method"], ticket["headers"], ticket["parts"]) == ("PUT", {}, None)


def test_bytes_put_at_the_presigned_url_are_an_input(door: Door) -> None:
    ticket = announced(door, b"abc")
    assert httpx.put(ticket["url"], content=b"abc", headers=ticket["headers"], trust_env=False).status_code == 200
    assert use(door, ticket).status_code == 202
    assert door.http.get(f"/api/v1/uploads/{ticket['id']}").json()["state"] == "complete"
    assert stored(door, ticket) == b"abc"


def test_an_upload_without_its_bytes_is_refused_at_submit(door: Door) -> None:
    answer = use(door, announced(door, b"abc"))
    assert (answer.status_code, answer.json()["code"]) == (422, "upload-incomplete")


def test_an_upload_of_another_size_is_refused_at_submit(door: Door) -> None:
    ticket = announced(door, b"abc")
    httpx.put(ticket["url"], content=b"abcd", trust_env=False)
    answer = use(door, ticket)
    assert (answer.status_code, answer.json()["code"]) == (422, "size-mismatch")
    assert answer.json()["facts"]["size"] == 4


def test_an_empty_file_is_refused(door: Door) -> None:
    for answer in (
        door.http.post("/api/v1/uploads", json={"name": "a", "size": 0}),
        door.http.post("/api/v1/uploads?name=a", content=b""),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "empty-input")


def test_a_file_over_the_limit_is_refused_before_it_comes(settings: Settings) -> None:
    with front_door(settings, max_upload_bytes=2000) as door:
        answer = door.http.post("/api/v1/uploads", json={"name": "a", "size": 2001})
        assert (answer.status_code, answer.json()["code"]) == (413, "input-too-large")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"size": 1}, "#/name"),
        ({"name": "a"}, "#/size"),
        ({"name": "a", "size": -1}, "#/size"),
        ({"name": "a", "size": 1, "sha256": "x"}, "#/sha256"),
        ({"name": "a", "size": 1, "media_type": "a\r\nx: y/b"}, "#/media_type"),
        ({"name": "a", "size": 1, "colour": 1}, "#/colour"),
    ],
)
def test_a_wrong_announcement_is_refused(shared_door: Door, body: dict[str, Any], pointer: str) -> None:
    answer = shared_door.http.post("/api/v1/uploads", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


def test_an_announcement_that_is_not_json_is_refused(shared_door: Door) -> None:
    answer = shared_door.http.post("/api/v1/uploads", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-json")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("../../etc/passwd", "passwd"), ("C:\\scans\\a.nii", "a.nii"), ("..", "file"), ("a\r\nb", "ab"), ("  ", "file")],
)
def test_names_are_made_safe(shared_door: Door, given: str, kept: str) -> None:
    assert announced(shared_door, b"abc", name=given)["object"]["name"] == kept
    inline = shared_door.http.post("/api/v1/uploads", params={"name": given}, content=b"abc").json()
    assert inline["object"]["key"] == f"uploads/default/{inline['id']}/{kept}"


def test_the_body_itself_may_be_the_file(door: Door) -> None:
    answer = door.http.post(
        "/api/v1/uploads?name=r%C3%B6ntgen%20%231.nii",
        content=b"abc",
        headers={"content-type": "application/x-nifti; v=1"},
    )
    ticket = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/uploads/{ticket['id']}"
    assert (ticket["state"], ticket["url"]) == ("complete", None)
    assert ticket["object"]["sha256"] == sha256(b"abc")
    assert ticket["object"]["media_type"] == "application/x-nifti"
    assert ticket["object"]["name"] == "röntgen #1.nii"
    assert stored(door, ticket) == b"abc"
    assert use(door, ticket).status_code == 202


def test_the_digest_of_such_a_body_is_verified(door: Door) -> None:
    good = door.http.post(f"/api/v1/uploads?name=a&sha256={sha256(b'abc')}", content=b"abc")
    bad = door.http.post(f"/api/v1/uploads?name=a&sha256={sha256(b'abd')}", content=b"abc")
    assert good.status_code == 201
    assert (bad.status_code, bad.json()["code"]) == (422, "checksum-mismatch")


def test_a_body_in_chunks_without_a_length_is_stored_too(door: Door) -> None:
    data = os.urandom(3 * MIB)

    def chunks() -> Iterator[bytes]:
        for offset in range(0, len(data), 100_000):
            yield data[offset : offset + 100_000]

    ticket = door.http.post("/api/v1/uploads?name=a", content=chunks()).json()
    assert ticket["object"]["sha256"] == sha256(data)
    assert stored(door, ticket) == data


def test_large_files_go_in_parts(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "SINGLE_PUT_BYTES", 8 * MIB)
    monkeypatch.setattr(tickets, "_MIN_PART_BYTES", 5 * MIB)
    data = os.urandom(12 * MIB + 7)
    ticket = announced(door, data)
    assert ticket["url"] is None
    parts = ticket["parts"]
    assert [(part["number"], part["offset"], part["size"]) for part in parts] == [
        (1, 0, 5 * MIB),
        (2, 5 * MIB, 5 * MIB),
        (3, 10 * MIB, 2 * MIB + 7),
    ]
    complete = f"/api/v1/uploads/{ticket['id']}/complete"
    assert use(door, ticket).json()["code"] == "upload-incomplete"
    etags = []
    for part in parts[::-1]:
        piece = data[part["offset"] : part["offset"] + part["size"]]
        put = httpx.put(part["url"], content=piece, trust_env=False)
        etags.append({"number": part["number"], "etag": put.headers["etag"]})
    few = door.http.post(complete, json={"parts": etags[1:]})
    assert (few.status_code, few.json()["errors"][0]["pointer"]) == (422, "#/parts")
    wrong = door.http.post(complete, json={"parts": [{**part, "etag": "f" * 32} for part in etags]})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "upload-incomplete")
    for _ in range(2):
        joined = door.http.post(complete, json={"parts": etags})
        assert (joined.status_code, joined.json()["state"]) == (200, "complete")
    assert stored(door, ticket) == data
    assert use(door, ticket).status_code == 202


def test_parts_that_were_joined_before_the_answer_got_lost_are_complete(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "SINGLE_PUT_BYTES", 1)
    ticket = announced(door, b"abc")
    put = httpx.put(ticket["parts"][0]["url"], content=b"abc", trust_env=False)
    parts = {"parts": [{"number": 1, "etag": put.headers["etag"]}]}
    complete = f"/api/v1/uploads/{ticket['id']}/complete"
    assert door.http.post(complete, json=parts).status_code == 200
    with psycopg.connect(door.core.settings.database_dsn, autocommit=True) as connection:
        connection.execute("update upload set state = 'pending', multipart_id = 'joined-already', part_size = 16777216")
    assert door.http.post(complete, json=parts).json()["state"] == "complete"


def test_a_single_put_may_be_completed_by_word(door: Door) -> None:
    ticket = announced(door, b"abc")
    early = door.http.post(f"/api/v1/uploads/{ticket['id']}/complete", json={})
    assert (early.status_code, early.json()["code"]) == (422, "upload-incomplete")
    httpx.put(ticket["url"], content=b"abc", trust_env=False)
    assert door.http.post(f"/api/v1/uploads/{ticket['id']}/complete", json={}).json()["state"] == "complete"


def test_through_the_api_the_bytes_are_verified_and_stored(proxy_door: Door) -> None:
    data = os.urandom(300_000)
    ticket = announced(proxy_door, data)
    content = f"{proxy_door.url}/api/v1/uploads/{ticket['id']}/content"
    assert ticket["url"] == content
    for _ in range(2):
        # More than MAX_BODY_BYTES: the ticket says how much may come. And a repeat of the same bytes is no fault.
        answer = proxy_door.http.put(content, content=data)
        assert (answer.status_code, answer.json()["state"]) == (200, "complete"), answer.text
    assert stored(proxy_door, ticket) == data
    other = proxy_door.http.put(content, content=os.urandom(300_000))
    assert other.status_code in (409, 422)
    assert use(proxy_door, ticket).status_code == 202


def test_through_the_api_other_bytes_than_announced_are_refused(proxy_door: Door) -> None:
    ticket = announced(proxy_door, b"abc")

    def chunks(data: bytes) -> Iterator[bytes]:
        yield data

    for data, status, code in (
        (b"abd", 422, "checksum-mismatch"),
        (b"abcd", 422, "size-mismatch"),
        (b"ab", 422, "size-mismatch"),
        (b"", 422, "size-mismatch"),
        (chunks(b"abcd"), 413, "input-too-large"),
        (chunks(b"ab"), 422, "size-mismatch"),
    ):
        answer = proxy_door.http.put(ticket["url"], content=data)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert use(proxy_door, ticket).json()["code"] == "upload-incomplete"


def test_a_complete_upload_keeps_its_bytes(proxy_door: Door) -> None:
    ticket = announced(proxy_door, b"abc", sha256=None)
    assert proxy_door.http.put(ticket["url"], content=b"abc").status_code == 200
    answer = proxy_door.http.put(ticket["url"], content=b"xyz")
    assert (answer.status_code, answer.json()["code"]) == (409, "upload-complete")
    assert stored(proxy_door, ticket) == b"abc"


def test_no_temporary_file_stays(proxy_door: Door, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ticket = announced(proxy_door, b"abc")
    proxy_door.http.put(ticket["url"], content=b"abd")
    proxy_door.http.put(ticket["url"], content=b"abc")
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_that_takes_nothing_is_told(
    proxy_door: Door, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    answer = proxy_door.http.post("/api/v1/uploads?name=a", content=b"abc")
    assert (answer.status_code, answer.json()["code"]) == (503, "scratch-unavailable")


def test_the_public_url_is_the_base_of_tickets(settings: Settings) -> None:
    with front_door(settings, object_access="proxy", public_url="https://fleet.example/base/") as door:
        ticket = announced(door, b"abc")
        answer = door.http.post("/api/v1/uploads?name=a", content=b"abc")
    assert answer.headers["location"] == f"/base/api/v1/uploads/{answer.json()['id']}"
    assert ticket["url"] == f"https://fleet.example/base/api/v1/uploads/{ticket['id']}/content"


def test_a_deleted_upload_is_gone_with_its_bytes(door: Door) -> None:
    ticket = door.http.post("/api/v1/uploads?name=a", content=b"abc").json()
    assert door.http.delete(f"/api/v1/uploads/{ticket['id']}").status_code == 204
    assert door.http.get(f"/api/v1/uploads/{ticket['id']}").status_code == 404
    assert door.core.objects.keys(f"uploads/default/{ticket['id']}/") == []


def test_a_deleted_upload_takes_its_parts_along(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "SINGLE_PUT_BYTES", 1)
    ticket = announced(door, b"abc")
    httpx.put(ticket["parts"][0]["url"], content=b"abc", trust_env=False)
    assert door.http.delete(f"/api/v1/uploads/{ticket['id']}").status_code == 204
    assert httpx.put(ticket["parts"][0]["url"], content=b"abc", trust_env=False).status_code == 404


def test_an_upload_that_a_job_uses_cannot_be_deleted(door: Door) -> None:
    ticket = door.http.post("/api/v1/uploads?name=a", content=b"abc").json()
    assert use(door, ticket).status_code == 202
    answer = door.http.delete(f"/api/v1/uploads/{ticket['id']}")
    assert (answer.status_code, answer.json()["code"]) == (409, "upload-in-use")
    assert stored(door, ticket) == b"abc"


def test_an_expired_upload_is_gone_unless_a_job_used_it(door: Door) -> None:
    unused, used = (door.http.post("/api/v1/uploads?name=a", content=b"abc").json() for _ in range(2))
    assert use(door, used).status_code == 202
    with psycopg.connect(door.core.settings.database_dsn, autocommit=True) as connection:
        connection.execute("update upload set expires_at = clock_timestamp() - interval '1 minute'")
    reference = {key: unused["object"][key] for key in ("bucket", "key")}
    for answer in (use(door, unused), door.submit(inputs=[{"object": reference}])):
        assert (answer.status_code, answer.json()["code"]) == (404, "upload-not-found")
    assert use(door, used).status_code == 202
