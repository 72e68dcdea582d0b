"""Submitting: what goes over the wire, and what a bad connection does to it."""

import hashlib
from typing import Any

import pytest

from fleet_client import (
    APIError,
    Client,
    Conflict,
    ConnectionFailed,
    FleetError,
    Forbidden,
    InvalidRequest,
    NotFound,
    ObjectRef,
    Retries,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Upload,
)
from tests.support.protocol_server import JOB_ID, Drop, ProtocolServer, decoded, problem


def test_segment_sends_the_documented_request(fleet: Client, server: ProtocolServer) -> None:
    job = fleet.segment(
        b"volume", model="brain-extraction", priority="high", labels={"study": "A17"}, deadline_s=60, format="nrrd"
    )
    (post,) = server.api.requests("POST", "/api/v1/jobs")
    body = post.json
    assert decoded(body.pop("inputs")[0]) == b"volume"
    assert body == {
        "task": "segmentation",
        "model": "brain-extraction",
        "params": {"format": "nrrd"},
        "priority": "high",
        "labels": {"study": "A17"},
        "deadline_s": 60,
    }
    assert post.headers["authorization"] == "Bearer the-key"
    assert job.state == "queued"


def test_references_are_sent_as_references(fleet: Client, server: ProtocolServer) -> None:
    fleet.submit(None, [Upload("u1", "a", 1, "00"), ObjectRef("fleet", "results/x")], model="m")
    body = server.api.requests("POST", "/api/v1/jobs")[0].json
    assert body["inputs"] == [{"upload": "u1"}, {"object": {"bucket": "fleet", "key": "results/x"}}]
    assert "task" not in body


def test_a_retried_submit_keeps_its_idempotency_key(fleet: Client, server: ProtocolServer) -> None:
    server.api.fail("POST", "/api/v1/jobs", Drop, problem(503, "dependency-unavailable", "later"), Drop)
    fleet.segment(b"volume", model="m")
    keys = [seen.headers["idempotency-key"] for seen in server.api.requests("POST", "/api/v1/jobs")]
    assert len(keys) == 4
    assert len(set(keys)) == len(server.submitted) == 1


def test_two_submits_have_two_keys(fleet: Client, server: ProtocolServer) -> None:
    fleet.segment(b"volume", model="m")
    fleet.segment(b"volume", model="m")
    assert len(server.submitted) == 2


def test_a_given_idempotency_key_is_used(fleet: Client, server: ProtocolServer) -> None:
    fleet.segment(b"volume", model="m", idempotency_key="mine")
    assert list(server.submitted) == ["mine"]


def test_retry_after_is_obeyed(fleet: Client, server: ProtocolServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("fleet_client.retry.time.sleep", pauses.append)
    server.api.fail("POST", "/api/v1/jobs", problem(429, "slow-down", "later", {"retry-after": "7"}))
    fleet.segment(b"volume", model="m")
    (pause,) = pauses
    assert 7 <= pause < 8


def test_a_retry_after_beyond_patience_is_raised_at_once(fleet: Client, server: ProtocolServer) -> None:
    server.api.fail("POST", "/api/v1/jobs", problem(503, "closed", "tomorrow", {"retry-after": "86400"}))
    with pytest.raises(Unavailable) as caught:
        fleet.segment(b"volume", model="m")
    assert caught.value.retry_after == 86400
    assert len(server.api.requests("POST", "/api/v1/jobs")) == 1


def test_retries_end(fleet: Client, server: ProtocolServer) -> None:
    server.api.fail("POST", "/api/v1/jobs", *[Drop] * 10)
    with pytest.raises(ConnectionFailed):
        fleet.segment(b"volume", model="m")
    assert len(server.api.requests("POST", "/api/v1/jobs")) == 4


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (415, InvalidRequest),
        (422, InvalidRequest),
        (429, TooManyRequests),
        (500, APIError),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
def test_each_status_has_its_error(server: ProtocolServer, status: int, kind: type[APIError]) -> None:
    faults = [{"detail": "must be a number", "pointer": "#/params/threshold"}]
    server.api.fail("GET", "/api/v1/jobs/x", problem(status, "some-code", "what was wrong", errors=faults))
    with Client(server.url, retries=0) as fleet, pytest.raises(kind) as caught:
        fleet.job("x")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.detail, error.errors) == (status, "some-code", "what was wrong", faults)
    assert error.request_id == "request-1"
    assert "must be a number" in str(error)


def test_an_error_of_a_proxy_in_between_is_readable(server: ProtocolServer) -> None:
    server.api.fail("GET", "/api/v1/jobs/x", (502, {"content-type": "text/html"}, b"<h1>Bad  Gateway</h1>"))
    with Client(server.url, retries=0) as fleet, pytest.raises(Unavailable, match="Bad Gateway") as caught:
        fleet.job("x")
    assert caught.value.code == "http-502"


def test_another_kind_of_server_is_told_as_such(fleet: Client, server: ProtocolServer) -> None:
    server.api.fail("GET", "/api/v1/models", (200, {"content-type": "text/html"}, b"<h1>It works!</h1>"))
    with pytest.raises(APIError, match="is the URL right") as caught:
        fleet.models()
    assert caught.value.code == "unexpected-answer"


def test_a_redirecting_server_is_not_followed_with_the_key(fleet: Client, server: ProtocolServer) -> None:
    server.api.fail("GET", "/api/v1/models", (308, {"location": f"{server.store.url}/elsewhere"}, b""))
    with pytest.raises(APIError, match="elsewhere"):
        fleet.models()
    assert server.store.seen == []


def test_nobody_listening_is_a_failed_connection() -> None:
    with Client("http://127.0.0.1:1", retries=Retries(times=0)) as fleet, pytest.raises(ConnectionFailed) as caught:
        fleet.models()
    assert "127.0.0.1:1" in str(caught.value)
    assert isinstance(caught.value, FleetError)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://h/?key=1", "http://me:hunter2@h"])
def test_an_unusable_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        Client(url)
    assert "hunter2" not in str(caught.value)


def test_the_key_is_in_no_representation(server: ProtocolServer) -> None:
    with Client(server.url, "the-key") as fleet:
        assert "the-key" not in repr(fleet) + str(vars(fleet))


@pytest.mark.parametrize("key", ["two\nlines", "naïve", ""])
def test_an_unusable_key_is_refused_at_once(key: str) -> None:
    with pytest.raises(ValueError):
        Client("http://127.0.0.1:1", key)


def test_a_prefix_of_the_url_is_kept(server: ProtocolServer) -> None:
    with Client(server.url + "/behind/", retries=0) as fleet, pytest.raises(NotFound):
        fleet.models()
    assert server.api.seen[0].path == "/behind/api/v1/models"


def test_a_single_input_instead_of_a_list_is_told(fleet: Client) -> None:
    with pytest.raises(TypeError, match=r"\[input\]"):
        fleet.submit("segmentation", "scan.nii.gz", model="m")


def test_a_request_that_is_still_being_stored_is_asked_again(fleet: Client, server: ProtocolServer) -> None:
    server.api.fail("POST", "/api/v1/jobs", problem(409, "idempotency-key-in-use", "repeat it"))
    assert fleet.segment(b"volume", model="m").state == "queued"


def reused(server: ProtocolServer, job: dict[str, Any]) -> None:
    """Lets the server refuse the next submit, since its key stands for `job`."""
    server.states = [job]
    facts = {"job_id": job["id"]}
    server.api.fail("POST", "/api/v1/jobs", problem(422, "idempotency-key-reused", "other body", facts=facts))


VOLUME = b"v" * 70_000
SENT = [{"name": "input", "size": len(VOLUME), "sha256": hashlib.sha256(VOLUME).hexdigest()}]


def test_the_same_file_under_the_same_key_is_the_first_job(fleet: Client, server: ProtocolServer) -> None:
    reused(server, server.job(model="m", priority="normal", params={"format": "nrrd"}, inputs=SENT))
    assert fleet.segment(VOLUME, model="m", idempotency_key="mine", format="nrrd").id == JOB_ID


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"format": "nifti"}},
        {"model": "other"},
        {"priority": "high"},
        {"labels": {"study": "B"}},
        {"inputs": []},
        {"inputs": [SENT[0] | {"sha256": "00"}]},
        {"inputs": [SENT[0] | {"sha256": None}]},
    ],
)
def test_another_request_under_the_same_key_stays_refused(
    fleet: Client, server: ProtocolServer, other: dict[str, Any]
) -> None:
    first = {"model": "m", "priority": "normal", "params": {"format": "nrrd"}, "inputs": SENT}
    reused(server, server.job(**(first | other)))
    with pytest.raises(InvalidRequest, match="other body"):
        fleet.segment(VOLUME, model="m", idempotency_key="mine", format="nrrd")
