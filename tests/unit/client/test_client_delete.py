"""Deleting and retrying jobs, and how long they are kept, as the client asks for it."""

import pytest

from fleet_client import Client, Conflict
from tests.support.protocol_server import JOB_ID, Drop, ProtocolServer, problem


def test_delete_tells_whether_all_is_gone(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("succeeded")]
    job = fleet.job(JOB_ID)
    assert job.delete() is True
    server.states = [server.job("running")]
    assert job.delete() is False
    assert [seen.path for seen in server.api.requests("DELETE")] == [f"/api/v1/jobs/{JOB_ID}"] * 2


def test_a_delete_whose_answer_got_lost_is_no_error(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("succeeded")]
    job = fleet.job(JOB_ID)
    server.api.fail("DELETE", "/api/v1/jobs", Drop, problem(404, "job-not-found", "there is no such job"))
    assert job.delete() is False
    assert len(server.api.requests("DELETE")) == 2


def test_retry_renews_the_record(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("failed")]
    job = fleet.job(JOB_ID)
    assert job.retry() is job
    assert (job.state, job.record.retries) == ("queued", 1)
    job.retry(deadline_s=60)
    plain, timed = server.api.requests("POST", f"/api/v1/jobs/{JOB_ID}/retry")
    assert plain.body == b""
    assert timed.json == {"deadline_s": 60}


def test_what_cannot_be_retried_is_a_conflict(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("succeeded")]
    job = fleet.job(JOB_ID)
    server.api.fail("POST", "/api/v1/jobs", problem(409, "job-succeeded", "it has succeeded"))
    with pytest.raises(Conflict) as refused:
        job.retry()
    assert refused.value.code == "job-succeeded"
    assert job.state == "succeeded"


def test_how_long_a_job_is_kept_is_sent_only_when_it_is_said(fleet: Client, server: ProtocolServer) -> None:
    fleet.segment(b"volume", model="m", retention_s=3600)
    fleet.submit(None, [], model="m", retention_s=60.0)
    fleet.segment(b"volume", model="m")
    sent = [seen.json.get("retention_s") for seen in server.api.requests("POST", "/api/v1/jobs")]
    assert sent == [3600, 60.0, None]


def test_a_job_tells_when_it_will_be_swept(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("succeeded", retention_s=3600.0, expires_at="2026-01-01T01:00:00Z")]
    record = fleet.job(JOB_ID).record
    assert record.expires_at is not None
    assert (record.retention_s, record.expires_at.isoformat()) == (3600.0, "2026-01-01T01:00:00+00:00")
