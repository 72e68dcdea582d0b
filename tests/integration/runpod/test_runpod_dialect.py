"""RunPod's routes, one by one: the test is the worker, so that every state of a job can be seen."""

from http.client import HTTPConnection
from typing import Any

import httpx
import orjson
import pytest

from fleet.contracts import Job, Priority
from fleet.errors import CorruptInput
from fleet.job_values import Ending
from tests.integration.runpod.conftest import CARD
from tests.support.front_door import Door, worker_row
from tests.support.waiting import eventually

BASE = "/runpod/v2/colours"
INPUT = {"image": "aGVsbG8="}


def run(door: Door, base: str = BASE, **body: Any) -> dict[str, Any]:
    answer = door.http.post(f"{base}/run", json={"input": INPUT, **body})
    assert answer.status_code == 200, answer.text
    told = dict(answer.json())
    assert (set(told), told["status"]) == ({"id", "status"}, "IN_QUEUE")
    return told


def get(door: Door, path: str) -> dict[str, Any]:
    answer = door.http.get(f"{BASE}/{path}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refused(answer: httpx.Response) -> tuple[int, str]:
    told = answer.json()
    assert set(told) == {"error", "code"}
    assert told["error"]
    return answer.status_code, told["code"]


def stored(door: Door, job: dict[str, Any]) -> Job:
    return door.core.jobs.get(door.id(job["id"]))


def failed(door: Door, job: dict[str, Any]) -> None:
    claim = door.core.jobs.claim(door.id(job["id"]), "w", 30.0)
    assert claim is not None
    assert door.core.jobs.fail(claim.job, CorruptInput("cut short", code="corrupt-picture"), Ending({}, None))


def test_a_job_is_queued_then_runs_then_has_its_output(door: Door) -> None:
    job = run(door)
    assert get(door, f"status/{job['id']}") == job
    claim = door.core.jobs.claim(door.id(job["id"]), "w", 30.0)
    assert claim is not None
    assert get(door, f"status/{job['id']}")["status"] == "IN_PROGRESS"
    assert door.core.jobs.finish(
        claim.job,
        result={"top_class": "red"},
        artifacts=[],
        inputs=claim.job.inputs,
        ending=Ending({"infer": 0.5}, None),
    )
    told = get(door, f"status/{job['id']}?ttl=1000")
    assert told["status"] == "COMPLETED"
    assert told["output"]["success"] is True
    assert told["output"]["result"] == {"top_class": "red"}
    assert told["output"]["metadata"]["inference_time_ms"] == 500.0
    assert told["executionTime"] == 500
    assert told["delayTime"] >= 0
    assert "error" not in told


def test_a_failure_stands_in_the_job_and_in_its_output(door: Door) -> None:
    job = run(door)
    failed(door, job)
    told = get(door, f"status/{job['id']}")
    assert (told["status"], told["error"]) == ("FAILED", "corrupt-picture: cut short")
    assert told["output"]["success"] is False
    assert told["output"]["error"] == {"code": "corrupt-picture", "message": "cut short"}


def test_the_policy_becomes_the_job_s_own_limits(door: Door) -> None:
    job = stored(door, run(door, policy={"ttl": 20_000, "executionTimeout": 6_000, "lowPriority": True}))
    assert job.execution_timeout_s == 6.0
    assert job.deadline is not None
    assert 19 < (job.deadline - job.created_at).total_seconds() < 21
    assert job.priority is Priority.LOW
    usual = stored(door, run(door, policy=None, webhook=None, unknown=1))
    assert usual.priority is Priority.NORMAL


def test_a_job_that_is_out_of_time_can_still_be_looked_at_and_be_retried(door: Door) -> None:
    job = run(door)
    door.core.database.run(
        "UPDATE job SET deadline = clock_timestamp() WHERE id = %(id)s RETURNING id", {"id": door.id(job["id"])}
    )
    eventually(lambda: get(door, f"status/{job['id']}")["status"] != "IN_QUEUE")
    seen = get(door, f"status/{job['id']}")
    assert (seen["status"], seen["output"]["success"]) == ("TIMED_OUT", False)
    assert get(door, f"stream/{job['id']}")["stream"] == []
    again = door.http.post(f"{BASE}/retry/{job['id']}").json()
    assert again == job
    assert get(door, f"status/{job['id']}") == job


def test_only_what_failed_is_retried(door: Door) -> None:
    job = run(door)
    assert refused(door.http.post(f"{BASE}/retry/{job['id']}")) == (400, "not-retryable")
    failed(door, job)
    assert door.http.post(f"{BASE}/retry/{job['id']}").json() == job
    assert "output" not in get(door, f"status/{job['id']}")
    door.http.post(f"{BASE}/cancel/{job['id']}")
    assert refused(door.http.post(f"{BASE}/retry/{job['id']}")) == (400, "not-retryable")


def test_runsync_answers_with_how_far_it_is_when_the_wait_is_over(door: Door) -> None:
    answer = door.http.post(f"{BASE}/runsync?wait=1", json={"input": INPUT}).json()
    assert (set(answer), answer["status"]) == ({"id", "status"}, "IN_QUEUE")
    assert stored(door, answer).state.value == "queued"


def test_who_hangs_up_while_he_waits_loses_nothing_but_the_answer(door: Door) -> None:
    seen = {job["id"] for job in get(door, "requests")["requests"]}
    body = orjson.dumps({"input": INPUT})
    waiting = HTTPConnection(door.url.removeprefix("http://"))
    waiting.request("POST", f"{BASE}/runsync?wait=60000", body, {"content-type": "application/json"})
    eventually(lambda: {job["id"] for job in get(door, "requests")["requests"]} > seen)
    waiting.close()
    (job,) = [job for job in get(door, "requests")["requests"] if job["id"] not in seen]
    assert job["status"] == "IN_QUEUE"
    door.run(job["id"], {"top_class": "red"})
    assert get(door, f"status/{job['id']}")["output"]["result"] == {"top_class": "red"}


def test_a_cancelled_job_is_not_streamed_on(door: Door) -> None:
    job = run(door)
    for _ in range(2):
        answer = door.http.post(f"{BASE}/cancel/{job['id']}", headers={"content-type": "application/json"})
        assert answer.json() == {"id": job["id"], "status": "CANCELLED"}
    assert get(door, f"status/{job['id']}")["status"] == "CANCELLED"
    assert refused(door.http.get(f"{BASE}/stream/{job['id']}")) == (410, "job-cancelled")


def test_a_cancel_of_a_running_job_does_not_wait_for_its_end(door: Door) -> None:
    job = run(door)
    assert door.core.jobs.claim(door.id(job["id"]), "w", 30.0)
    assert door.http.post(f"{BASE}/cancel/{job['id']}").json()["status"] == "CANCELLED"
    assert get(door, f"status/{job['id']}")["status"] == "IN_PROGRESS"
    assert stored(door, job).cancel_requested


def test_each_item_is_streamed_once_whoever_asks_and_anew_after_a_retry(door: Door) -> None:
    job = run(door, input={"images": ["aGVsbG8=", "d29ybGQ="]})
    assert get(door, f"stream/{job['id']}") == {**job, "stream": []}
    items = [{"index": number, "name": f"{number}", "result": {"n": number}} for number in range(2)]
    door.run(job["id"], {"count": 2, "items": items})
    first, second = get(door, f"stream/{job['id']}"), get(door, f"stream/{job['id']}")
    assert first == {"id": job["id"], "status": "COMPLETED", "stream": [{"output": item} for item in items]}
    assert second["stream"] == []


def test_a_stream_gives_a_megabyte_at_a_time(door: Door) -> None:
    job = run(door)
    items = [{"index": number, "name": "", "result": {"text": "x" * 300_000}} for number in range(7)]
    items[5]["result"] = {"text": "x" * 1_100_000}
    door.run(job["id"], {"count": 7, "items": items})
    told: list[dict[str, Any]] = []
    while chunk := get(door, f"stream/{job['id']}")["stream"]:
        assert sum(len(str(each)) for each in chunk) <= 1_000_000
        told += [each["output"] for each in chunk]
    assert [each["index"] for each in told] == list(range(7))
    assert told[5]["error"]["code"] == "chunk-too-large"


def test_one_answer_is_one_piece(door: Door) -> None:
    job = run(door)
    door.run(job["id"], {"top_class": "red"})
    first, second = get(door, f"stream/{job['id']}"), get(door, f"stream/{job['id']}")
    assert [piece["output"]["result"] for piece in first["stream"]] == [{"top_class": "red"}]
    assert second["stream"] == []


def test_a_purge_takes_what_waits_at_this_endpoint_alone(door: Door) -> None:
    door.http.post(f"{BASE}/purge-queue")
    waiting, running = [run(door) for _ in range(3)], run(door)
    assert door.core.jobs.claim(door.id(running["id"]), "w", 30.0)
    other = run(door, "/runpod/v2/default", input={**INPUT, "model_id": "colours"})
    native = door.accepted(model="colours")
    answer = door.http.post(f"{BASE}/purge-queue", headers={"content-type": "application/json"})
    assert answer.json() == {"removed": 3, "status": "completed"}
    assert {get(door, f"status/{job['id']}")["status"] for job in waiting} == {"CANCELLED"}
    assert get(door, f"status/{running['id']}")["status"] == "IN_PROGRESS"
    assert stored(door, other).state.value == stored(door, native).state.value == "queued"


def test_health_counts_the_jobs_of_the_endpoint_and_the_workers_of_its_model(door: Door) -> None:
    door.core.catalogue.announce_worker(worker_row("busy", models=["colours/1"], running=1))
    door.core.catalogue.announce_worker(worker_row("else", models=["text/1"]))
    before = get(door, "health")
    job = run(door)
    failed(door, job)
    door.http.post(f"{BASE}/retry/{job['id']}")
    door.run(run(door)["id"])
    after = get(door, "health")
    assert after["jobs"]["completed"] == before["jobs"]["completed"] + 1
    assert after["jobs"]["inQueue"] == before["jobs"]["inQueue"] + 1
    assert after["jobs"]["retried"] == before["jobs"]["retried"] + 1
    assert set(after["jobs"]) >= {"completed", "failed", "inProgress", "inQueue", "retried"}
    assert (after["workers"]["running"], after["workers"]["idle"]) == (1, 0)


def test_the_jobs_of_a_model_that_is_gone_are_counted_listed_and_purged(door: Door) -> None:
    gone, tries = "/runpod/v2/short-lived", (("GET", "health"), ("GET", "requests"), ("POST", "purge-queue"))
    for method, call in tries:
        assert refused(door.http.request(method, f"{gone}/{call}")) == (404, "model-not-found")
    door.announce(CARD.model_copy(update={"name": "short-lived"}))
    jobs = [run(door, gone)["id"] for _ in range(2)]
    door.core.database.run("DELETE FROM model_card WHERE name = 'short-lived' RETURNING name")
    health = door.http.get(f"{gone}/health").json()
    assert health["jobs"]["inQueue"] == 2
    assert health["workers"] == {"idle": 0, "running": 0, "ready": 0}
    assert [job["id"] for job in door.http.get(f"{gone}/requests").json()["requests"]] == jobs[::-1]
    assert door.http.post(f"{gone}/purge-queue").json() == {"removed": 2, "status": "completed"}


def test_requests_lists_the_jobs_of_the_endpoint_page_by_page(door: Door) -> None:
    jobs = [run(door)["id"] for _ in range(3)]
    first = get(door, "requests?limit=2")
    rest = get(door, f"requests?limit=1&cursor={first['next_cursor']}")
    assert [job["id"] for job in (*first["requests"], *rest["requests"])] == jobs[::-1]


def test_an_input_that_the_client_wrapped_again_is_unwrapped(door: Door) -> None:
    assert stored(door, run(door, input={"input": INPUT})).params == {}


def test_a_repeat_with_a_key_is_the_first_job(door: Door) -> None:
    sent = [
        door.http.post(f"{BASE}/run", json={"input": INPUT}, headers={"Idempotency-Key": "runpod"}) for _ in range(2)
    ]
    assert sent[0].json() == sent[1].json()
    assert sent[1].headers["idempotency-replayed"] == "true"
    door.run(sent[0].json()["id"])
    again = door.http.post(f"{BASE}/run", json={"input": INPUT}, headers={"Idempotency-Key": "runpod"})
    assert again.json() == {**sent[0].json(), "status": "COMPLETED"}


@pytest.mark.parametrize(
    ("endpoint", "body", "status", "code", "says"),
    [
        ("colours", {}, 400, "validation-failed", "`input`"),
        ("colours", {"input": {}}, 400, "validation-failed", "`input`"),
        ("colours", {"input": {"input": {"input": {}}}}, 400, "validation-failed", "`input`"),
        ("colours", {"input": "hello"}, 400, "validation-failed", "`input`"),
        ("colours", {"input": {"image": "?"}}, 400, "not-base64", "#/input/image"),
        ("colours", {"input": {**INPUT, "model_id": "text"}}, 400, "validation-failed", "model_id"),
        ("colours", {"input": {**INPUT, "config": {"top_k": 0}}}, 400, "validation-failed", "#/input/config/top_k"),
        ("colours", {"input": {**INPUT, "model_type": "abacus"}}, 400, "model-type-unknown", "abacus"),
        ("colours", {"input": {"images": []}}, 400, "image-missing", "images"),
        ("colours", {"input": INPUT, "policy": {"ttl": 9_999}}, 400, "validation-failed", "policy/ttl"),
        ("colours", {"input": INPUT, "policy": {"executionTimeout": 1}}, 400, "validation-failed", "executionTimeout"),
        ("colours", {"input": INPUT, "webhook": "https://example.com/x"}, 400, "webhooks-not-configured", "webhooks"),
        ("colours", {"input": INPUT, "webhook": "x" * 5000}, 400, "validation-failed", "webhook"),
        ("default", {"input": INPUT}, 400, "validation-failed", "model_id"),
        ("default", {"input": {**INPUT, "model_id": "nobody"}}, 404, "model-not-found", "nobody"),
        ("nobody", {"input": INPUT}, 404, "model-not-found", "nobody"),
        ("no%00body", {"input": INPUT}, 404, "model-not-found", "endpoint"),
        ("colours", [], 400, "invalid-json", "object"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_in_runpods_form(
    door: Door, endpoint: str, body: Any, status: int, code: str, says: str
) -> None:
    answer = door.http.post(f"/runpod/v2/{endpoint}/run", json=body)
    assert refused(answer) == (status, code)
    assert says in answer.json()["error"]


def test_secrets_of_s3_are_refused_and_stored_nowhere(door: Door) -> None:
    before = get(door, "requests")["requests"]
    secret = {"accessId": "id", "accessSecret": "hidden", "bucketName": "b", "endpointUrl": "https://s3.example.com"}
    answer = door.http.post(f"{BASE}/run", json={"input": INPUT, "s3Config": secret})
    assert refused(answer) == (400, "s3-config-refused")
    assert "hidden" not in answer.text
    assert get(door, "requests")["requests"] == before


@pytest.mark.parametrize(("call", "most"), [("run", 10_000_000), ("runsync", 20_000_000)])
def test_bodies_have_runpods_limits(door: Door, call: str, most: int) -> None:
    announced = HTTPConnection(door.url.removeprefix("http://"))
    announced.putrequest("POST", f"{BASE}/{call}")
    announced.putheader("content-length", str(most + 1))
    announced.endheaders()
    answer = announced.getresponse()
    assert (answer.status, orjson.loads(answer.read())["code"]) == (413, "input-too-large")
    announced.close()
    body = {"input": {"image": "?" * (most - 1000)}}
    assert refused(door.http.post(f"{BASE}/{call}", json=body)) == (400, "not-base64")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "status/none", 404, "job-not-found"),
        ("GET", "stream/none", 404, "job-not-found"),
        ("POST", "cancel/01a1ffc1-baa9-7101-a7ea-c2594670f6b2", 404, "job-not-found"),
        ("GET", "run", 405, "method-not-allowed"),
        ("GET", "nothing", 404, "not-found"),
        ("GET", "requests?limit=0", 400, "malformed-request"),
        ("GET", "requests?cursor=none", 400, "validation-failed"),
        ("POST", "runsync?wait=soon", 400, "malformed-request"),
    ],
)
def test_what_is_not_there_is_said_in_runpods_form(door: Door, method: str, path: str, status: int, code: str) -> None:
    assert refused(door.http.request(method, f"{BASE}/{path}", json={"input": INPUT})) == (status, code)


def test_openais_calls_are_passed_through_in_openais_form(door: Door) -> None:
    base = "/runpod/v2/default/openai/v1"
    assert door.http.get(f"{base}/models").json()["object"] == "list"
    answer = door.http.post(f"{base}/embeddings", json={"model": "nobody", "input": "red"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    for path, status, code in (("chat/completions", 404, "unknown_url"), ("models", 405, "method_not_allowed")):
        answer = door.http.post(f"{base}/{path}", json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_job_of_another_endpoint_is_not_shown(door: Door) -> None:
    native = door.accepted(model="colours")
    assert refused(door.http.get(f"{BASE}/status/{native['id']}")) == (404, "job-not-found")
    job = run(door)
    assert refused(door.http.get(f"/runpod/v2/default/status/{job['id']}")) == (404, "job-not-found")
