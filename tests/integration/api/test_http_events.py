"""GET /api/v1/jobs/{id}/events: what happens is heard, in order, once, and over every kind of interruption."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from fleet.contracts import Job, JobState
from fleet.errors import CorruptInput
from fleet.job_values import Ending
from fleet.settings import Settings
from tests.support.event_listener import listening
from tests.support.fleet_of_one import new_job, worker_process
from tests.support.front_door import Door, card, front_door
from tests.support.tcp_proxy import proxy_to
from tests.support.waiting import eventually

#: Short, so that a stream notices soon that its reader has left.
HEARTBEAT_S = 0.2


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    with front_door(settings, sse_heartbeat_s=HEARTBEAT_S) as opened:
        opened.announce(card())
        yield opened


def claimed(door: Door, job_id: str) -> Job:
    claim = door.core.jobs.claim(UUID(job_id), "test-worker", 30.0)
    assert claim is not None
    return claim.job


def step(door: Door, job: Job, stage: str, progress: float) -> None:
    door.core.jobs.note_progress([(job.id, job.attempt, stage, progress)])


def finish(door: Door, job: Job, *, tell: bool = True) -> Job:
    ended = door.core.jobs.finish(
        job, result={"text": "done"}, artifacts=[], inputs=job.inputs, ending=Ending({}, None)
    )
    assert ended is not None
    if tell:
        door.core.broker.tell_ended(ended.id, ended.state)
    return ended


def revision(door: Door, job_id: str) -> int:
    return door.core.jobs.get(UUID(job_id)).revision


def open_streams(door: Door) -> float | None:
    return door.core.measures.registry.get_sample_value("fleet_http_event_streams")


def forget(door: Door, job_id: str) -> None:
    door.core.database.run("UPDATE job SET deleted_at = clock_timestamp() WHERE id = %(id)s", {"id": job_id})


def test_every_step_is_an_event_and_the_end_is_the_last(door: Door) -> None:
    job_id = door.accepted(labels={"line": "one\ntwo\r\n\u2028three"})["id"]
    with listening(door.url, job_id) as heard:
        assert heard.hears("job.queued").data["state"] == "queued"
        job = claimed(door, job_id)
        assert heard.hears("job.started").data["attempt"] == 1
        step(door, job, "infer", 0.5)
        at_half = heard.hears("job.progress").data
        finish(door, job)
        end = heard.hears("job.succeeded")
        heard.finishes()
    assert (at_half["stage"], at_half["progress"]) == ("infer", 0.5)
    assert heard.names == ["job.queued", "job.started", "job.progress", "job.succeeded"]
    assert heard.ids == sorted(set(heard.ids))
    assert heard.ids[-1] == revision(door, job_id)
    assert end.data == door.http.get(f"/api/v1/jobs/{job_id}").json()


def test_nothing_on_the_way_may_keep_the_events_to_itself(door: Door) -> None:
    job_id = door.accepted()["id"]
    door.run(job_id)
    with listening(door.url, job_id) as heard:
        heard.finishes()
    assert heard.answer is not None
    headers = heard.answer.headers
    assert headers["content-type"].partition(";")[0] == "text/event-stream"
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    assert "content-length" not in headers
    assert heard.retry_ms in range(1000, 3001)


def test_an_ended_job_is_its_end_alone_and_then_204(door: Door) -> None:
    job_id = door.accepted()["id"]
    door.run(job_id)
    with listening(door.url, job_id) as heard:
        heard.finishes()
    assert heard.names == ["job.succeeded"]
    with listening(door.url, job_id, seen=heard.ids[-1]) as again:
        again.finishes()
    assert again.answer is not None
    assert (again.answer.status_code, again.answer.content) == (204, b"")


def test_one_who_has_seen_it_hears_the_next_change_first(door: Door) -> None:
    job_id = door.accepted()["id"]
    with listening(door.url, job_id, seen=revision(door, job_id)) as heard:
        heard.opens()
        eventually(lambda: heard.heartbeats > 2)
        assert heard.events == []
        claimed(door, job_id)
        heard.hears("job.started")
    assert heard.names == ["job.started"]


@pytest.mark.parametrize("seen", ["0", "999999", "1e3", "-1", "\u0661", "first", "9" * 40])
def test_an_id_that_is_not_the_present_one_gets_the_job_as_it_is(door: Door, seen: str) -> None:
    job_id = door.accepted()["id"]
    claimed(door, job_id)
    headers = {"last-event-id": seen.encode("utf-8")}
    with httpx.stream("GET", f"{door.url}/api/v1/jobs/{job_id}/events", headers=headers, trust_env=False) as answer:  # type: ignore[arg-type]
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("event")) == "event: job.started"


def test_what_happened_while_the_line_was_cut_comes_as_its_latest_state(door: Door) -> None:
    job_id = door.accepted()["id"]
    with proxy_to(httpx.URL(door.url).port or 0) as proxy:
        through = f"http://127.0.0.1:{proxy.port}"
        with listening(through, job_id) as first:
            first.hears("job.queued")
            proxy.cut()
            eventually(lambda: first.broken)
        job = claimed(door, job_id)
        step(door, job, "infer", 0.25)
        step(door, job, "infer", 0.75)
        proxy.mend()
        with listening(through, job_id, seen=first.ids[-1]) as second:
            assert second.hears("job.progress").data["progress"] == 0.75
            finish(door, job)
            second.finishes()
    assert second.names == ["job.progress", "job.succeeded"]
    assert first.ids[-1] < second.ids[0]


def test_a_line_that_died_in_silence_is_left_behind(door: Door) -> None:
    job_id = door.accepted()["id"]
    with proxy_to(httpx.URL(door.url).port or 0) as proxy:
        through = f"http://127.0.0.1:{proxy.port}"
        with listening(through, job_id) as first:
            first.hears("job.queued")
            proxy.strand()
            door.run(job_id)
            with listening(through, job_id, seen=first.ids[-1]) as second:
                second.finishes()
            proxy.cut()
    assert second.names == ["job.succeeded"]
    assert first.names == ["job.queued"]
    eventually(lambda: open_streams(door) == 0)


def test_a_stream_ends_in_order_with_its_server_and_goes_on_at_the_next(settings: Settings) -> None:
    with ExitStack() as followers:
        with front_door(settings) as door:
            door.announce(card())
            job_id = door.accepted()["id"]
            first = followers.enter_context(listening(door.url, job_id))
            first.hears("job.queued")
        first.finishes()
    with front_door(settings) as door:
        with listening(door.url, job_id, seen=first.ids[-1]) as second:
            second.opens()
            door.run(job_id)
            second.finishes()
    assert second.names[-1] == "job.succeeded"
    assert "job.queued" not in second.names


def test_a_cancel_is_heard_when_it_is_asked_and_when_it_is_done(door: Door) -> None:
    job_id = door.accepted()["id"]
    job = claimed(door, job_id)
    with listening(door.url, job_id) as heard:
        heard.hears("job.started")
        assert door.http.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 202
        assert heard.hears("job.cancelling").data["state"] == "cancelling"
        door.core.jobs.stop(job, JobState.CANCELLED, None, Ending({}, None))
        heard.hears("job.cancelled")
        heard.finishes()


def test_each_end_has_its_name(door: Door) -> None:
    failed, expired = (door.accepted()["id"] for _ in range(2))
    with listening(door.url, failed) as of_failed, listening(door.url, expired) as of_expired:
        of_failed.opens()
        of_expired.opens()
        door.core.jobs.fail(claimed(door, failed), CorruptInput("damaged"), Ending({}, None))
        door.core.jobs.stop(claimed(door, expired), JobState.EXPIRED, None, Ending({}, None))
        assert of_failed.hears("job.failed").data["error"]["code"] == "corrupt-input"
        of_expired.hears("job.expired")
        of_failed.finishes()
        of_expired.finishes()


def test_a_lost_word_of_redis_costs_a_moment_and_no_event(door: Door) -> None:
    job_id = door.accepted()["id"]
    with listening(door.url, job_id) as heard:
        heard.hears("job.queued")
        finish(door, claimed(door, job_id), tell=False)
        heard.finishes()
    assert heard.names[-1] == "job.succeeded"


def test_a_job_that_is_deleted_ends_its_streams_and_waits(door: Door) -> None:
    deleted, swept = (door.accepted()["id"] for _ in range(2))
    with listening(door.url, deleted) as of_deleted, listening(door.url, swept) as of_swept:
        of_deleted.hears("job.queued")
        of_swept.hears("job.queued")
        forget(door, deleted)
        door.core.database.run("DELETE FROM job WHERE id = %(id)s", {"id": swept})
        for heard, job_id in ((of_deleted, deleted), (of_swept, swept)):
            last = heard.hears("job.deleted")
            assert (last.id, last.data) == (None, {"id": job_id})
            heard.finishes()
    with listening(door.url, deleted, seen=of_deleted.ids[-1]) as again:
        again.finishes()
    assert again.answer is not None
    assert (again.answer.status_code, again.answer.json()["code"]) == (404, "job-not-found")


def test_a_waiter_learns_that_its_job_was_deleted(door: Door) -> None:
    job_id = door.accepted()["id"]
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(door.http.get, f"/api/v1/jobs/{job_id}", headers={"Prefer": "wait=60"})
        eventually(lambda: door.core.waiters._bells)
        forget(door, job_id)
        answer = waiting.result(timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")


def test_a_job_that_was_queued_again_by_hand_is_heard_by_one_who_saw_its_end(door: Door) -> None:
    job_id = door.accepted()["id"]
    assert door.http.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 200
    final = revision(door, job_id)
    door.core.jobs.retry(UUID(job_id), "default")
    with listening(door.url, job_id, seen=final) as heard:
        heard.hears("job.queued")
        door.run(job_id)
        heard.finishes()
    assert heard.names[-1] == "job.succeeded"


def test_jobs_of_others_and_of_nobody_are_404_before_a_stream_begins(settings: Settings) -> None:
    with front_door(settings, api_keys=SecretStr("alice:key-a,bob:key-b")) as door:
        door.announce(card())
        alice, bob = ({"authorization": f"Bearer {key}"} for key in ("key-a", "key-b"))
        job_id = door.submit(headers=alice).json()["id"]
        for headers, wanted in ((bob, job_id), (alice, "00000000-0000-7000-8000-000000000000"), (alice, "no-id")):
            answer = door.http.get(f"/api/v1/jobs/{wanted}/events", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")
            assert answer.headers["content-type"] == "application/problem+json"
        assert door.http.get(f"/api/v1/jobs/{job_id}/events").status_code == 401


def test_more_can_follow_than_there_are_threads_and_all_hear_the_end(door: Door) -> None:
    job_id = door.accepted()["id"]
    with ExitStack() as followers:
        all_of_them = [followers.enter_context(listening(door.url, job_id)) for _ in range(60)]
        for heard in all_of_them:
            heard.opens()
        assert open_streams(door) == 60
        # All of them follow, and the threads are free for others.
        assert door.http.get("/api/v1/jobs?limit=1").status_code == 200
        door.run(job_id)
        for heard in all_of_them:
            heard.finishes()
            assert heard.names[-1] == "job.succeeded"
    eventually(lambda: open_streams(door) == 0)
    assert door.core.waiters._bells == {}


def test_streams_are_bounded_and_a_place_is_free_when_a_reader_has_left(settings: Settings) -> None:
    with front_door(settings, sse_max_streams=1, sse_heartbeat_s=HEARTBEAT_S) as door:
        door.announce(card())
        job_id = door.accepted()["id"]
        path = f"/api/v1/jobs/{job_id}/events"
        with listening(door.url, job_id) as first:
            first.opens()
            answer = door.http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "too-many-streams")
            assert answer.headers["retry-after"]
        eventually(lambda: open_streams(door) == 0)
        with listening(door.url, job_id) as second:
            second.hears("job.queued")


def test_a_reader_who_takes_nothing_gets_the_newest_once_it_does(door: Door) -> None:
    """Its events are not kept for it: only those that lie in the sockets' buffers came before."""
    job_id = door.accepted(labels={str(number): "x" * 256 for number in range(32)})["id"]
    job = claimed(door, job_id)
    with socket.create_connection(("127.0.0.1", httpx.URL(door.url).port or 0)) as slow:
        slow.sendall(f"GET /api/v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        eventually(lambda: open_streams(door) == 1)
        for number in range(50):
            step(door, job, "infer", number / 100)
        door.core.database.run(
            "UPDATE job SET result = jsonb_build_object('text', repeat('y', 20000000)) WHERE id = %(id)s",
            {"id": job_id},
        )
        ended = door.core.jobs.stop(job, JobState.CANCELLED, None, Ending({}, None))
        assert ended is not None
        slow.settimeout(30)
        received = bytearray()
        while b"\r\n0\r\n\r\n" not in received[-16:]:
            received += slow.recv(1 << 20)
    ids = [int(line[4:]) for line in bytes(received).splitlines() if line.startswith(b"id: ")]
    assert ids == sorted(set(ids))
    assert ids[-1] == ended.revision
    assert len(ids) < 25


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux tells how long a peer is believed in")
def test_a_reader_who_takes_nothing_for_long_loses_its_place(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.__main__._DEAD_PEER_MS", 1000)
    with front_door(settings) as door, socket.socket() as stuck:
        door.announce(card())
        job_id = door.accepted()["id"]
        door.core.database.run(
            "UPDATE job SET result = jsonb_build_object('text', repeat('y', 20000000)) WHERE id = %(id)s",
            {"id": job_id},
        )
        stuck.connect(("127.0.0.1", httpx.URL(door.url).port or 0))
        stuck.sendall(f"GET /api/v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        eventually(lambda: open_streams(door) == 1)
        eventually(lambda: open_streams(door) == 0)


def test_a_stream_lives_on_while_the_record_is_away(settings: Settings) -> None:
    dsn = settings.database_dsn
    port = int(dsn.rpartition(":")[2].partition("/")[0])
    with proxy_to(port) as proxy:
        through = SecretStr(dsn.replace(f":{port}/", f":{proxy.port}/"))
        with front_door(settings, database_url=through, sse_heartbeat_s=HEARTBEAT_S) as door:
            door.announce(card())
            job_id = door.accepted()["id"]
            with listening(door.url, job_id) as heard:
                heard.hears("job.queued")
                proxy.cut()
                before = heard.heartbeats
                eventually(lambda: heard.heartbeats > before + 5)
                proxy.mend()
                eventually(lambda: door.http.get(f"/api/v1/jobs/{job_id}").is_success)
                door.run(job_id, tell=False)
                heard.finishes()
    assert heard.names[-1] == "job.succeeded"


def test_the_progress_of_a_real_worker_is_heard(door: Door, settings: Settings, tmp_path: Path) -> None:
    with worker_process(settings, tmp_path):
        new = new_job(params={"repeat": 400_000})
        door.core.jobs.submit(new)
        door.core.broker.publish(new.id, 0, "cpu.interactive.normal")
        with listening(door.url, str(new.id)) as heard:
            heard.finishes()
    assert heard.names[-1] == "job.succeeded"
    assert {event.data["stage"] for event in heard.events if event.name == "job.progress"} >= {"infer"}
    progress = [event.data["progress"] for event in heard.events]
    assert progress == sorted(progress)
    assert len(set(progress)) > 2
