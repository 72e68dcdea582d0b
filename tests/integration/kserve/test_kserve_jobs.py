"""A request for inference is a job like any other: stored, waited for, replayed, and never lost with its connection."""

import base64
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from fleet.contracts import Artifact, Job, JobState, MediaKind, ResultKind
from fleet.database import Database, Row
from fleet.errors import CorruptInput, FleetError, ModelError
from fleet.job_values import Ending, JobFilter
from fleet.kept_inputs import KeptInputs
from fleet.objects import result_key
from fleet.tensors import MAX_INLINE_BYTES, OUTPUTS_NAME, Blob, DataType, pack, unpack
from tests.support.front_door import Door, front_door, worker_row
from tests.support.servers import Servers
from tests.support.tensor_cards import pair
from tests.support.waiting import eventually

INFER = "/v2/models/pair/infer"
ENDING = Ending({"infer": 0.1}, None)
Infer = Callable[..., "Future[httpx.Response]"]


def asking(**more: Any) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
            {"name": "n", "shape": [1], "datatype": "INT32", "data": [3]},
        ],
        **more,
    }


def outputs(y: bytes = struct.pack("<2f", 0.1, 2)) -> list[Blob]:
    return [
        Blob("y", DataType.FP32, (len(y) // 8, 2), y),
        Blob("text", DataType.BYTES, (2,), b"\2\0\0\0ab\0\0\0\0"),
    ]


@pytest.fixture
def infer(door: Door) -> Iterator[Infer]:
    """Sends a request that others answer meanwhile."""
    with ThreadPoolExecutor(4) as threads:

        def sent(headers: dict[str, str] | None = None, **body: Any) -> "Future[httpx.Response]":
            return threads.submit(door.http.post, INFER, json=asking(**body), headers=headers)

        yield sent


def newest(door: Door, state: str = "queued") -> Job:
    found: list[Job] = []

    def there() -> bool:
        found[:] = [job for job in door.core.jobs.page("default", JobFilter(), limit=1) if job.state.value == state]
        return bool(found)

    eventually(there)
    return found[0]


def answered(door: Door, job: Job, blobs: list[Blob]) -> None:
    """Does with a job what a worker does, but for running the model."""
    described = [blob.described() for blob in blobs]
    data = b"".join(blob.data for blob in blobs)
    if len(data) <= MAX_INLINE_BYTES:
        door.run(str(job.id), {"outputs": described, "data": base64.b64encode(data).decode()})
        return
    key = result_key(job.id, 1, OUTPUTS_NAME)
    stored = door.core.objects.put_bytes(key, data, media_type="application/octet-stream", name=OUTPUTS_NAME)
    artifact = Artifact(name=OUTPUTS_NAME, object=stored)
    door.run(str(job.id), {"outputs": described, "artifact": OUTPUTS_NAME}, artifacts=[artifact])


def stopped(door: Door, job: Job, error: FleetError, state: JobState | None = None) -> None:
    claim = door.core.jobs.claim(job.id, "test-worker", 30.0)
    assert claim is not None
    ended = (
        door.core.jobs.fail(claim.job, error, ENDING)
        if state is None
        else door.core.jobs.stop(claim.job, state, error, ENDING)
    )
    assert ended is not None
    door.core.broker.tell_ended(ended.id, ended.state)


def test_a_small_request_is_one_job_that_carries_its_tensors(door: Door, infer: Infer) -> None:
    coming = infer(id="mine", parameters={"priority": 1, "timeout": 15_500_000, "custom": "word"})
    job = newest(door)
    assert (job.task, job.model, job.version, job.priority.name) == ("tensors", "pair", 1, "URGENT")
    assert job.deadline is not None
    assert (job.deadline - job.created_at).total_seconds() == pytest.approx(15.5, abs=0.01)
    (given,) = job.inputs
    assert given.inline is not None
    x, n = unpack(base64.b64decode(given.inline.data))
    assert (x.name, x.shape, bytes(x.data)) == ("x", (1, 2), struct.pack("<2f", 1, 2))
    assert (n.name, n.shape, bytes(n.data)) == ("n", (1,), struct.pack("<i", 3))
    answered(door, job, outputs())
    answer = coming.result()
    assert (answer.status_code, answer.headers["fleet-job-id"]) == (200, str(job.id))
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "id": "mine",
        "model_name": "pair",
        "model_version": "1",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.10000000149011612, 2.0]},
            {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["ab", ""]},
        ],
    }


def test_binary_outputs_follow_the_json_in_the_order_that_was_asked_for(door: Door, infer: Infer) -> None:
    wanted = [{"name": "text", "parameters": {"binary_data": True}}, {"name": "y", "parameters": {"binary_data": True}}]
    coming = infer(outputs=wanted)
    job = newest(door)
    assert job.params == {"outputs": [{"name": "text"}, {"name": "y"}]}
    answered(door, job, outputs()[::-1])
    answer = coming.result()
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    assert b'"parameters":{"binary_data_size":10}' in answer.content[:length]
    assert answer.content[length:] == b"\2\0\0\0ab\0\0\0\0" + struct.pack("<2f", 0.1, 2)


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_large_answers_come_whole_in_every_coding(door: Door, infer: Infer, coding: str | None) -> None:
    y = bytes(range(256)) * (3 * 4096)
    coming = infer({"accept-encoding": coding or "gzip, deflate"}, parameters={"binary_data_output": True})
    answered(door, newest(door), outputs(y))
    answer = coming.result()
    assert answer.headers.get("content-encoding") == coding
    length = int(answer.headers["inference-header-content-length"])
    assert answer.content[length:] == y + b"\2\0\0\0ab\0\0\0\0"


@pytest.mark.parametrize(("rows", "recorded"), [(20_000, True), (140_000, False)])
def test_large_requests_lie_in_the_record_and_larger_ones_in_the_object_store(
    door: Door, rows: int, recorded: bool
) -> None:
    x = {"name": "x", "shape": [rows, 2], "datatype": "FP32", "parameters": {"binary_data_size": rows * 8}}
    body = httpx.Request("POST", "http://x", json={"inputs": [x, asking()["inputs"][1]]}).content
    blob = bytes(range(200)) * (rows * 8 // 200)
    with ThreadPoolExecutor(1) as threads:
        sent = {"inference-header-content-length": str(len(body))}
        coming = threads.submit(door.http.post, INFER, content=body + blob, headers=sent)
        job = newest(door)
        (given,) = job.inputs
        if recorded:
            stored = KeptInputs(door.core.database).contents(job.id, {0: given.kept})[0]
        else:
            stored = b"".join(door.core.objects.stream(given.object))
        assert bytes(unpack(stored)[0].data) == blob
        answered(door, job, outputs())
        assert coming.result().status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (CorruptInput("the tensor is damaged"), 400, "the tensor is damaged"),
        (ModelError("Gather: index out of range", code="inference-failed"), 500, "the model failed: Gather: index"),
        (FleetError("no room", code="out-of-memory"), 500, "no room"),
    ],
)
def test_a_failed_job_says_why(door: Door, infer: Infer, error: FleetError, status: int, said: str) -> None:
    coming = infer()
    stopped(door, newest(door), error)
    answer = coming.result()
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert said in answer.json()["error"]


def test_a_cancelled_job_is_400(door: Door, infer: Infer) -> None:
    coming = infer()
    job = newest(door)
    door.http.post(f"/api/v1/jobs/{job.id}/cancel")
    assert (coming.result().status_code, coming.result().json()["error"][:25]) == (400, "the request was cancelled")


def test_a_job_past_its_time_is_503(door: Door, infer: Infer) -> None:
    coming = infer()
    stopped(door, newest(door), FleetError("it ran for 9 s", code="execution-timeout"), JobState.EXPIRED)
    answer = coming.result()
    assert (answer.status_code, answer.json()["error"]) == (503, "request deadline exceeded: it ran for 9 s")


def test_a_timeout_is_kept_without_a_worker(door: Door, infer: Infer) -> None:
    answer = infer(parameters={"timeout": 300_000}).result()
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("request deadline exceeded: job")
    assert int(answer.headers["retry-after"]) >= 1
    job_id = answer.headers["fleet-job-id"]
    eventually(lambda: door.http.get(f"/api/v1/jobs/{job_id}").json()["state"] == "expired")


def test_a_dropped_connection_loses_only_the_answer(door: Door) -> None:
    body = httpx.Request("POST", "http://x", json=asking(id="dropped")).content
    host, port = door.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        head = f"POST {INFER} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        caller.sendall(head.encode() + body)
        job = newest(door)
    answered(door, job, outputs())
    ended = door.http.get(f"/api/v1/jobs/{job.id}").json()
    assert (ended["state"], ended["result"]["outputs"][0]["name"]) == ("succeeded", "y")


def test_a_key_makes_a_repeat_the_same_job(door: Door, infer: Infer) -> None:
    key = {"idempotency-key": "once"}
    coming = infer(key)
    job = newest(door)
    answered(door, job, outputs())
    first, again = coming.result(), infer(key).result()
    assert again.json() == first.json()
    assert again.headers["fleet-job-id"] == str(job.id)
    assert again.headers["idempotency-replayed"] == "true"
    other = infer(key, parameters={"priority": 2}).result()
    assert other.status_code == 400
    assert "was used before with another body" in other.json()["error"]


def test_a_repeat_of_a_large_request_is_known_by_its_bytes(door: Door) -> None:
    rows = 10_000
    inputs = [{"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": [0.5] * rows * 2}, asking()["inputs"][1]]
    with ThreadPoolExecutor(1) as threads:
        sent = {"idempotency-key": "large"}
        coming = threads.submit(door.http.post, INFER, json={"inputs": inputs}, headers=sent)
        answered(door, newest(door), outputs())
        first = coming.result()
    stored = door.core.objects.keys("uploads/")
    again = door.http.post(INFER, json={"inputs": inputs}, headers=sent)
    assert again.headers["fleet-job-id"] == first.headers["fleet-job-id"]
    assert door.core.objects.keys("uploads/") == stored


def test_a_small_request_costs_two_statements(door: Door, infer: Infer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stores the job and one that reads how it ended, besides what is kept for a moment for all requests."""
    asked: list[tuple[object, str]] = []
    run = Database._once

    def noted(self: Database, statement: str, parameters: Mapping[str, Any] | None, *how: Any) -> list[Row]:
        if threading.current_thread() is not threading.main_thread():
            given = parameters or {}
            asked.append((given.get("id") or given.get("ids"), statement))
        return run(self, statement, parameters, *how)

    monkeypatch.setattr(Database, "_once", noted)
    coming = infer()
    job = newest(door)
    answered(door, job, outputs())
    assert coming.result().status_code == 200
    every_half_second = "SELECT id, revision"
    ours = [statement.strip() for ids, statement in asked if ids in (job.id, [job.id])]
    ours = [statement for statement in ours if not statement.startswith(every_half_second)]
    assert len(ours) == 2, ours
    assert "INSERT INTO job " in ours[0]
    assert ours[1].startswith("SELECT")
    assert door.core.objects.keys(f"results/{job.id}/") == []


def test_a_model_says_what_priority_a_request_without_one_has(door: Door) -> None:
    config = {"dynamic_batching": {"priority_levels": 4, "default_priority_level": 4}}
    door.announce(pair().model_copy(update={"name": "ranked", "config": config}))
    with ThreadPoolExecutor(1) as threads:
        coming = threads.submit(door.http.post, "/v2/models/ranked/infer", json=asking())
        job = newest(door)
        answered(door, job, outputs())
        assert coming.result().json()["model_name"] == "ranked"
    assert (job.model, job.priority.name) == ("ranked", "LOW")


def test_a_full_fleet_is_503_and_keeps_nothing(servers: Servers) -> None:
    limits = {"max_waiting_jobs_per_tenant": 1, "max_wait_s": 20}
    with servers.fresh() as settings, front_door(settings, **limits) as full:
        full.announce(pair())
        full.core.catalogue.announce_worker(worker_row(models=["pair/1"]))
        bundle = base64.b64encode(pack([])).decode()
        first = full.http.post("/api/v1/jobs", json={"model": "pair", "inputs": [{"data": bundle}]})
        assert first.status_code == 202
        rows = 10_000
        x = {"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": [0.5] * rows * 2}
        answer = full.http.post(INFER, json={"inputs": [x, asking()["inputs"][1]]})
        assert (answer.status_code, list(answer.json())) == (503, ["error"])
        assert int(answer.headers["retry-after"]) >= 1
        assert full.core.objects.keys("uploads/") == []


def test_the_native_api_runs_tensors_on_any_model_that_has_them(door: Door) -> None:
    segmentation = {"name": "both", "task": "segmentation", "accepts": MediaKind.VOLUME, "returns": ResultKind.MASK}
    door.announce(pair().model_copy(update=segmentation))
    bundle = base64.b64encode(pack([Blob("x", DataType.FP32, (1, 2), bytes(8))])).decode()
    body = {"model": "both", "task": "tensors", "inputs": [{"data": bundle}], "params": {"outputs": [{"name": "y"}]}}
    assert door.http.post("/api/v1/jobs", json=body).json()["task"] == "tensors"
    wrong = door.http.post("/api/v1/jobs", json={**body, "params": {"outputs": [{"name": "y", "what": 1}]}})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "#/params/outputs/0/what")
    none = door.http.post("/api/v1/jobs", json={**body, "inputs": []})
    assert "exactly one input for the task 'tensors'" in none.json()["detail"]
    other = door.http.post("/api/v1/jobs", json={**body, "task": "echo"})
    assert (other.status_code, other.json()["code"]) == (422, "task-mismatch")
    assert "'segmentation' or 'tensors', not 'echo'" in other.json()["detail"]
    files_only = door.http.post("/api/v1/jobs", json={**body, "model": "volume"})
    assert files_only.json()["code"] == "task-mismatch"
