"""Idempotency-Key: a repeat returns the first job, whatever happened in between."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg

from tests.support.front_door import Door

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def count_jobs(door: Door) -> int:
    with psycopg.connect(door.core.settings.database_dsn) as connection:
        row = connection.execute("select count(*) from job").fetchone()
    assert row is not None
    return int(row[0])


def test_a_repeat_returns_the_first_job_and_says_so(door: Door) -> None:
    first, second = door.submit(KEY), door.submit(KEY)
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json()["id"] == first.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    assert count_jobs(door) == 1


def test_fifty_at_once_are_one_job(door: Door) -> None:
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: door.submit(KEY), range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert count_jobs(door) == 1


def test_a_quoted_key_is_the_same_key(door: Door) -> None:
    first = door.submit({"Idempotency-Key": "abc"})
    assert door.submit({"Idempotency-Key": '"abc"'}).json()["id"] == first.json()["id"]


def test_defaults_spelled_out_are_the_same_request(door: Door) -> None:
    first = door.submit(KEY)
    second = door.submit(KEY, priority="normal", params={}, version=None)
    assert second.json()["id"] == first.json()["id"]


def test_the_same_key_with_another_body_is_refused(door: Door) -> None:
    first = door.submit(KEY)
    answer = door.submit(KEY, params={"threshold": 0.5})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert answer.json()["facts"] == {"job_id": first.json()["id"]}


def test_a_repeat_needs_none_of_what_the_first_needed(door: Door) -> None:
    upload = door.http.post("/api/v1/uploads?name=a.txt", content=b"abc").json()
    body: dict[str, Any] = {"inputs": [{"upload": upload["id"]}]}
    first = door.submit(KEY, **body)
    with psycopg.connect(door.core.settings.database_dsn, autocommit=True) as connection:
        connection.execute("delete from upload")
        connection.execute("delete from model_card")
    assert door.submit(KEY, **body).json()["id"] == first.json()["id"]


def test_a_repeat_that_waits_gets_the_end(door: Door) -> None:
    first = door.submit(KEY)
    door.run(first.json()["id"])
    second = door.submit({**KEY, "Prefer": "wait=30"})
    assert (second.status_code, second.json()["state"]) == (200, "succeeded")


def test_another_key_and_no_key_are_other_jobs(door: Door) -> None:
    answers: list[httpx.Response] = [door.submit(KEY), door.submit({"Idempotency-Key": "other"}), door.submit()]
    assert len({answer.json()["id"] for answer in answers}) == 3


def test_an_expired_key_stands_for_nothing(door: Door) -> None:
    first = door.submit(KEY)
    with psycopg.connect(door.core.settings.database_dsn, autocommit=True) as connection:
        connection.execute("update idempotency set expires_at = clock_timestamp() - interval '1 second'")
    second = door.submit(KEY, params={"threshold": 0.5})
    assert second.status_code == 202
    assert second.json()["id"] != first.json()["id"]


def test_a_refused_submit_leaves_its_key_free(door: Door) -> None:
    assert door.submit(KEY, params={"threshold": 9}).status_code == 422
    assert door.submit(KEY).status_code == 202
