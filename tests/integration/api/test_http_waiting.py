"""Prefer: wait=N: the answer comes with the end of the job, and no thread is held meanwhile."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import UUID

import httpx
import pytest
import redis
from pydantic import SecretStr

from fleet.broker import ENDED_CHANNEL
from fleet.contracts import Job
from fleet.job_news import news_of
from fleet.job_values import Standing
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door
from tests.support.tcp_proxy import proxy_to
from tests.support.waiting import eventually

WAIT = {"Prefer": "wait=60"}


def listeners(door: Door) -> int:
    return len(door.core.waiters._bells)


def subscribers(door: Door) -> int:
    with redis.Redis.from_url(door.core.settings.redis_url.get_secret_value()) as client:
        return int(client.pubsub_numsub(ENDED_CHANNEL)[0][1])  # type: ignore[index]


def deaf_to_the_record(door: Door) -> None:
    """From now on only the word of Redis wakes a waiter."""
    door.core.waiters._standings = lambda asked: dict.fromkeys(asked, Standing(0, ended=False))


def ended_while_waiting(door: Door, waiting: "Future[httpx.Response]", *, tell: bool) -> httpx.Response:
    """Lets the one job of the door end after somebody waits for it."""
    eventually(lambda: door.http.get("/api/v1/jobs?state=queued").json()["jobs"] and listeners(door))
    (job,) = door.http.get("/api/v1/jobs?state=queued").json()["jobs"]
    door.run(job["id"], tell=tell)
    return waiting.result(timeout=30)


def test_the_word_of_redis_wakes_a_submit_that_waits(door: Door) -> None:
    eventually(lambda: subscribers(door) == 1)
    deaf_to_the_record(door)
    with ThreadPoolExecutor(1) as thread:
        answer = ended_while_waiting(door, thread.submit(door.submit, WAIT), tell=True)
    assert answer.status_code == 200
    assert answer.json()["state"] == "succeeded"
    assert answer.json()["result"] == {"text": "done"}
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.headers["location"].endswith(answer.json()["id"])


def test_a_lost_word_costs_a_waiter_only_a_moment(door: Door) -> None:
    with ThreadPoolExecutor(1) as thread:
        answer = ended_while_waiting(door, thread.submit(door.submit, WAIT), tell=False)
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")


def told_while_waiting(door: Door, news: Callable[[Job], bytes]) -> tuple[Job, httpx.Response]:
    """The one job of the door, and the answer to its submit, which waited until that was told of its end."""
    eventually(lambda: subscribers(door) == 1)
    deaf_to_the_record(door)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(door.submit, WAIT)
        eventually(lambda: door.http.get("/api/v1/jobs?state=queued").json()["jobs"] and listeners(door))
        (job,) = door.http.get("/api/v1/jobs?state=queued").json()["jobs"]
        ended = door.run(job["id"], tell=False)
        door.core.broker.tell_ended(ended.id, ended.state, news(ended))
        return ended, waiting.result(timeout=30)


def test_what_the_worker_tells_is_what_the_record_holds_and_nobody_reads_it_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(asked: Sequence[UUID]) -> dict[UUID, Job]:
        raise AssertionError(f"{asked} are read again")

    with monkeypatch.context() as patched:
        patched.setattr(door.core.waiters.reader, "_read", unread)
        job, answer = told_while_waiting(door, lambda job: news_of(job.model_copy(update={"inputs": []})))
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    kept = door.http.get(f"/api/v1/jobs/{job.id}").json()
    assert kept["inputs"]
    assert {**answer.json(), "inputs": kept["inputs"]} == kept


@pytest.mark.parametrize("news", [b"", b"{}", b"nothing that could be read"])
def test_what_is_told_and_not_understood_is_read_from_the_record(door: Door, news: bytes) -> None:
    _, answer = told_while_waiting(door, lambda _: news)
    assert (answer.status_code, answer.json()["result"]) == (200, {"text": "done"})


def test_the_word_of_a_worker_of_the_version_before_wakes_a_waiter_too(door: Door) -> None:
    eventually(lambda: subscribers(door) == 1)
    deaf_to_the_record(door)
    job = door.accepted()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(door.http.get, f"/api/v1/jobs/{job['id']}", headers=WAIT)
        eventually(lambda: listeners(door))
        door.run(job["id"], tell=False)
        with redis.Redis.from_url(door.core.settings.redis_url.get_secret_value()) as client:
            client.publish(ENDED_CHANNEL, f"{job['id']} succeeded")
        assert waiting.result(timeout=30).json()["state"] == "succeeded"


def test_a_reader_may_wait_too(door: Door) -> None:
    job = door.accepted()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(door.http.get, f"/api/v1/jobs/{job['id']}", headers=WAIT)
        answer = ended_while_waiting(door, waiting, tell=True)
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")


def test_a_cancelled_job_wakes_its_waiter(door: Door) -> None:
    job = door.accepted()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(door.http.get, f"/api/v1/jobs/{job['id']}", headers=WAIT)
        eventually(lambda: listeners(door))
        assert door.http.post(f"/api/v1/jobs/{job['id']}/cancel").status_code == 200
        assert waiting.result(timeout=30).json()["state"] == "cancelled"


def test_the_end_of_the_wait_is_202_with_the_job_as_it_is(door: Door) -> None:
    answer = door.submit({"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["preference-applied"] == "wait=1"


def test_an_ended_job_is_not_waited_for(door: Door) -> None:
    job = door.accepted()
    door.run(job["id"])
    answer = door.http.get(f"/api/v1/jobs/{job['id']}", headers={"Prefer": "respond-async, wait=300"})
    assert answer.json()["state"] == "succeeded"


def test_no_wait_is_granted_beyond_the_setting(settings: Settings) -> None:
    with front_door(settings, max_wait_s=1) as door:
        door.announce(card())
        assert door.submit({"Prefer": "wait=999"}).headers["preference-applied"] == "wait=1"


def test_without_the_preference_nothing_is_applied(door: Door) -> None:
    answer = door.submit()
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


def test_more_can_wait_than_there_are_threads(door: Door) -> None:
    waiting = 60
    jobs = [door.accepted()["id"] for _ in range(waiting)]
    with httpx.Client(base_url=door.url, timeout=60, trust_env=False, limits=httpx.Limits()) as http:
        with ThreadPoolExecutor(waiting) as threads:

            def ended(job: str) -> httpx.Response:
                # Sixty at once may find the record's connections taken for a moment, and are told to come again.
                while (answer := http.get(f"/api/v1/jobs/{job}", headers=WAIT)).status_code == 503:
                    time.sleep(0.1)
                return answer

            answers = [threads.submit(ended, job) for job in jobs]
            eventually(lambda: listeners(door) == waiting)
            # All wait, and the threads are free for others.
            assert door.http.get("/api/v1/jobs?limit=1").status_code == 200
            for job in jobs:
                door.run(job)
            assert {answer.result(30).json()["state"] for answer in answers} == {"succeeded"}
    eventually(lambda: listeners(door) == 0)


def test_waiting_goes_on_after_redis_was_away(settings: Settings) -> None:
    url = settings.redis_url.get_secret_value()
    port = int(url.rpartition(":")[2].partition("/")[0])
    with proxy_to(port) as proxy:
        through = SecretStr(url.replace(f":{port}", f":{proxy.port}"))
        with front_door(settings, redis_url=through) as door:
            door.announce(card())
            proxy.cut()
            with ThreadPoolExecutor(1) as thread:
                answer = ended_while_waiting(door, thread.submit(door.submit, WAIT), tell=False)
            assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
            proxy.mend()
            eventually(lambda: subscribers(door) == 1 and not door.core.broker.resting)
            deaf_to_the_record(door)
            with ThreadPoolExecutor(1) as thread:
                answer = ended_while_waiting(door, thread.submit(door.submit, WAIT), tell=True)
            assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
