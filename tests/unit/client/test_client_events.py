"""Following a job by the server's events, and without them where they do not come through."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_client import Client, JobRecord, NotFound, Timeout, following
from fleet_client.server_events import EventReader, ServerEvent
from tests.support.protocol_server import JOB_ID, Answer, Drop, ProtocolServer, event, problem
from tests.unit.client.conftest import QUICK

EVENTS = f"/api/v1/jobs/{JOB_ID}/events"
STREAM = {"content-type": "text/event-stream"}


def streams(server: ProtocolServer) -> list[str | None]:
    """The ids from which the streams so far went on."""
    return [seen.headers.get("last-event-id") for seen in server.api.requests("GET", EVENTS)]


def held(server: ProtocolServer) -> list[str]:
    return [seen.headers["prefer"] for seen in server.api.seen if "prefer" in seen.headers]


def course(server: ProtocolServer) -> list[dict[str, object]]:
    """A job's life in five steps."""
    running = [server.job("running", stage="infer", progress=step / 4) for step in range(1, 4)]
    return [server.job(), *running, server.job("succeeded", progress=1.0)]


def steps(records: Iterator[JobRecord]) -> list[float]:
    return [record.progress for record in records]


def test_events_are_the_job_as_it_is_and_every_change(fleet: Client, server: ProtocolServer) -> None:
    server.states = course(server)
    job = fleet.job(JOB_ID)
    assert steps(job.events()) == [0.25, 0.5, 0.75, 1.0]
    assert job.state == "succeeded"
    assert held(server) == []
    (seen,) = server.api.requests("GET", EVENTS)
    assert (seen.headers["accept"], seen.headers["accept-encoding"]) == ("text/event-stream", "identity")
    assert seen.headers["authorization"] == "Bearer the-key"


def test_events_of_an_ended_job_are_its_end(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("failed")]
    assert [record.state for record in fleet.job(JOB_ID).events()] == ["failed"]


def test_wait_is_one_stream_where_nothing_breaks(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job(), *course(server)]
    fleet.job(JOB_ID).wait()
    assert (streams(server), held(server)) == ([None], [])


def test_a_stream_that_breaks_off_is_taken_up_where_it_was(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job(), *course(server)]
    server.events_per_stream = 2
    job = fleet.job(JOB_ID)
    assert steps(job.events()) == [0.0, 0.25, 0.5, 0.75, 1.0]
    # Between two streams the client asks once, which takes a step, too.
    assert streams(server) == [None, "2"]


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_events_is_asked(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_PACE_S", 0.01)
    with ProtocolServer(events=False) as server, Client(server.url, retries=QUICK) as fleet:
        server.states = [server.job(), *course(server)]
        server.api.fail("GET", EVENTS, problem(status, "not-found", "there is nothing here"))
        assert steps(fleet.job(JOB_ID).events()) == [0.0, 0.25, 0.5, 0.75, 1.0]
        assert len(streams(server)) == 1
        assert held(server) == ["wait=1"] * 5


def test_nobody_who_watches_waits_longer_for_the_answer() -> None:
    with ProtocolServer(events=False) as server, Client(server.url, retries=QUICK) as fleet:
        server.states = [server.job(), server.job("succeeded")]
        fleet.job(JOB_ID).wait()
        assert held(server) == ["wait=20"]


@pytest.mark.parametrize(
    "fault",
    [Drop, problem(503, "too-many-streams", "full"), problem(504, "http-504", "slow"), (200, STREAM, b"")],
    ids=["reset", "full", "gateway", "empty"],
)
def test_streams_that_bring_nothing_are_given_up_while_the_server_answers(
    fleet: Client, server: ProtocolServer, monkeypatch: pytest.MonkeyPatch, fault: Answer | type[Drop]
) -> None:
    monkeypatch.setattr(following, "_PACE_S", 0.01)
    server.states = [server.job(), server.job(), server.job(), *course(server)]
    server.api.fail("GET", EVENTS, *[fault] * 10)
    assert fleet.job(JOB_ID).wait().state == "succeeded"
    assert len(streams(server)) == 3


def test_streams_come_back_with_the_server(fleet: Client, server: ProtocolServer) -> None:
    server.states = course(server)
    server.events_per_stream = 1
    job = fleet.job(JOB_ID)
    away = problem(503, "starting", "soon", {"retry-after": "0"})
    server.api.fail("GET", EVENTS, away)
    server.api.fail("GET", f"/api/v1/jobs/{JOB_ID}", Drop, away, Drop, Drop, Drop, Drop)
    assert job.wait().state == "succeeded"
    assert len(streams(server)) > 1


def test_a_proxy_that_keeps_the_bytes_is_got_round(
    fleet: Client, server: ProtocolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_SILENCE_S", 0.2)
    over = threading.Event()

    def kept() -> Iterator[bytes]:
        over.wait(30)
        yield b""

    server.states = [server.job(), *course(server)]
    server.api.fail("GET", EVENTS, (200, STREAM, kept()))
    job = fleet.job(JOB_ID)
    assert steps(job.events()) == [0.0, 0.25, 0.5, 0.75, 1.0]
    over.set()
    assert len(streams(server)) == 1


def test_a_deleted_job_is_not_found(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job()]
    job = fleet.job(JOB_ID)
    gone = b'event: job.deleted\ndata: {"id": "x"}\n\n'
    server.api.fail("GET", EVENTS, (200, STREAM, iter([event(1, server.job("running")), gone])))
    server.api.fail("GET", f"/api/v1/jobs/{JOB_ID}", problem(404, "job-not-found", "there is no such job"))
    seen: list[str] = []
    with pytest.raises(NotFound, match="no such job"):
        job.wait(lambda record: seen.append(record.state))
    assert seen == ["queued", "running"]


def test_words_of_a_newer_server_are_passed_over(fleet: Client, server: ProtocolServer) -> None:
    strange = [b"event: weather\ndata: sunny\n\n", b"flavour: 7\n\n", b'data: {"id": 1}\n\n']
    pieces = [event(1, server.job("paused")), *strange, event(2, server.job("succeeded"))]
    server.states = [server.job()]
    job = fleet.job(JOB_ID)
    server.api.fail("GET", EVENTS, (200, STREAM, iter(pieces)))
    assert [record.state for record in job.events()] == ["paused", "succeeded"]


def test_the_time_given_ends_a_stream_that_goes_on(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("running")]
    with pytest.raises(Timeout, match=JOB_ID):
        fleet.job(JOB_ID).wait(timeout=1.5)
    assert len(streams(server)) >= 1
    with pytest.raises(Timeout):
        list(fleet.job(JOB_ID).events(timeout=0))


def test_one_who_has_seen_enough_may_leave(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("running", stage="infer")]
    for record in fleet.job(JOB_ID).events():
        assert record.stage == "infer"
        break
    assert fleet.job(JOB_ID).state == "running"


def test_many_threads_may_follow_with_one_client(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("running")]
    followers = 101
    jobs = [fleet.job(JOB_ID) for _ in range(followers)]
    with ThreadPoolExecutor(followers) as threads:
        waiting = [threads.submit(job.wait) for job in jobs]
        while len(streams(server)) < followers:
            time.sleep(0.05)
        assert fleet.job(JOB_ID).state == "running"
        server.states[:] = [server.job("succeeded")]
        assert {job.result(timeout=60).state for job in waiting} == {"succeeded"}


LINES = [
    "\ufeff: a comment", "", "retry: 1000", "", "id: 7", "event: job.progress", "data: {\"a\":", "data:1}", "",
    "data", "", "id: 8\0", "data:  two\u2028lines\u0085\u000b", "", "event: unfinished", "id", "data: last", "",
    "id: 10", "data: never completed",
]  # fmt: skip
MEANT = [
    ServerEvent("7", "job.progress", b'{"a":\n1}'),
    ServerEvent("7", "message", b""),
    ServerEvent("7", "message", " two\u2028lines\u0085\u000b".encode()),
    ServerEvent("", "unfinished", b"last"),
]


@given(st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 250)))
def test_events_are_read_however_their_bytes_are_cut(newline: str, cuts: list[int]) -> None:
    data = newline.join(LINES).encode()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reader = EventReader()
    pieces = [data[start:end] for start, end in pairwise(edges)]
    assert [found for piece in pieces for found in reader.feed(piece)] == MEANT


def test_a_large_event_in_small_pieces_is_read_in_one_go() -> None:
    data = json.dumps({"text": "x" * 3_000_000}).encode()
    reader = EventReader()
    wire = b"id: 1\ndata: " + data + b"\n\n"
    found = [read for start in range(0, len(wire), 1000) for read in reader.feed(wire[start : start + 1000])]
    assert found == [ServerEvent("1", "message", data)]
