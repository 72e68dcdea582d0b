"""POST /api/v1/jobs: what is accepted, and how it is stored."""

import base64
import json
import threading
from datetime import datetime

import redis

from fleet.contracts import Artifact, DevicePolicy, Pool
from fleet.jobs import JobFilter
from fleet.objects import result_key
from tests.support.front_door import Door, card, worker_row


def test_an_accepted_job_has_a_location_and_the_documented_form(door: Door) -> None:
    answer = door.submit(params={"threshold": 0.5}, labels={"study": "A17"}, priority="high", task="text-embedding")
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    assert job["queue"] == "cpu.interactive.high"
    assert job["params"] == {"threshold": 0.5}
    assert job["labels"] == {"study": "A17"}
    assert job["inputs"] == [{"name": None, "size": 5, "media_type": "application/octet-stream", "sha256": None}]
    assert job["max_attempts"] == 3
    assert job["created_at"].endswith("Z")
    # Where it stands in its queue is not looked up for the submit.
    assert door.http.get(answer.headers["location"]).json() | {"forecast": job["forecast"]} == job
    documented = {
        "id", "task", "model", "version", "state", "stage", "progress", "priority", "lane", "queue", "params", "inputs",
        "labels", "result", "artifacts", "error", "attempt", "max_attempts", "cancel_requested", "deadline",
        "execution_timeout_s", "timings", "ran_on", "route_reason", "history", "retries", "callback", "retention_s",
        "created_at", "started_at", "finished_at", "expires_at", "forecast",
    }  # fmt: skip
    assert set(job) == documented


def test_the_message_names_the_job_for_celery_and_for_flower(door: Door) -> None:
    job = door.accepted()
    with redis.Redis.from_url(door.core.settings.redis_url.get_secret_value()) as client:
        (message,) = [json.loads(item) for item in client.lrange(job["queue"], 0, -1)]  # type: ignore[union-attr]
    assert json.loads(base64.b64decode(message["body"]))[0] == [job["id"], 1]
    assert message["headers"]["shadow"] == "text-embedding[text]"


def test_a_live_gpu_worker_gets_the_job_and_the_reason_is_told(door: Door) -> None:
    door.core.catalogue.announce_worker(worker_row("g1", Pool.GPU))
    job = door.accepted()
    assert job["queue"].startswith("gpu.")
    assert job["route_reason"] == "a GPU worker is alive"


def test_a_gpu_worker_that_does_not_hold_the_model_gets_nothing(door: Door) -> None:
    door.core.catalogue.announce_worker(worker_row("g1", Pool.GPU, models=["other/1"]))
    door.core.catalogue.announce_worker(worker_row("c1"))
    job = door.accepted()
    assert job["queue"].startswith("cpu.")
    assert job["route_reason"] == "no GPU worker of the interactive lane holds the model"


def test_a_draining_gpu_worker_gets_nothing(door: Door) -> None:
    door.core.catalogue.announce_worker(worker_row("g1", Pool.GPU, draining=True))
    assert door.accepted()["queue"].startswith("cpu.")


def test_the_cards_policy_wins_over_live_workers(door: Door) -> None:
    door.announce(card("gpu-model", device=DevicePolicy.GPU_ONLY))
    assert door.accepted(model="gpu-model")["queue"].startswith("gpu-only.")


def test_a_request_may_ask_for_the_bulk_lane(door: Door) -> None:
    assert door.accepted(lane="bulk")["queue"] == "cpu.bulk.normal"


def test_the_highest_version_runs_unless_one_is_named(door: Door) -> None:
    door.announce(card("text", version=7), card("text", version=10))
    assert door.accepted()["version"] == 10
    assert door.accepted(version=7)["version"] == 7


def test_a_new_model_is_known_at_once_after_it_was_not(door: Door) -> None:
    assert door.submit(model="later").status_code == 404
    door.announce(card("later"))
    assert door.submit(model="later").status_code == 202


def test_limits_of_the_request_replace_those_of_the_card(door: Door) -> None:
    job = door.accepted(deadline_s=60, execution_timeout_s=30, max_attempts=1)
    assert (job["execution_timeout_s"], job["max_attempts"]) == (30.0, 1)
    deadline, created = (datetime.fromisoformat(job[field]) for field in ("deadline", "created_at"))
    assert 59.9 <= (deadline - created).total_seconds() <= 60.1


def test_the_callers_trace_is_kept_and_a_broken_one_is_not(door: Door) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    kept = door.submit({"traceparent": trace}).json()["id"]
    dropped = door.submit({"traceparent": "00-short-01"}).json()["id"]
    by_id = {str(job.id): job.trace_context for job in door.core.jobs.page("default", JobFilter(), limit=10)}
    assert by_id == {kept: trace, dropped: None}


def test_several_texts_are_several_inputs_with_their_names(door: Door) -> None:
    job = door.accepted(inputs=[{"data": "YQ=="}, {"data": "YmM=", "name": "dir/b.txt", "media_type": "text/plain"}])
    assert [item["size"] for item in job["inputs"]] == [1, 2]
    assert job["inputs"][1]["name"] == "b.txt"
    assert job["inputs"][1]["media_type"] == "text/plain"


def test_an_upload_of_the_caller_is_an_input(door: Door) -> None:
    upload = door.http.post("/api/v1/uploads?name=a.txt", content=b"abc").json()
    job = door.accepted(inputs=[{"upload": upload["id"]}])
    assert job["inputs"][0]["name"] == "a.txt"
    assert job["inputs"][0]["sha256"] == upload["object"]["sha256"]


def test_an_upload_is_an_input_by_its_object_too(door: Door) -> None:
    stored = door.http.post("/api/v1/uploads?name=a.txt", content=b"abc").json()["object"]
    job = door.accepted(inputs=[{"object": {"bucket": stored["bucket"], "key": stored["key"]}}])
    assert job["inputs"][0]["sha256"] == stored["sha256"]


def test_a_result_of_the_caller_is_an_input_of_the_next_job(door: Door) -> None:
    first = door.accepted()
    key = result_key(first["id"], 1, "out.txt")
    reference = door.core.objects.put_bytes(key, b"abc", media_type="text/plain", name="out.txt")
    door.run(first["id"], artifacts=[Artifact(name="out.txt", object=reference)])
    job = door.accepted(inputs=[{"object": {"bucket": reference.bucket, "key": key}}])
    assert job["inputs"][0]["sha256"] == reference.sha256


def test_a_hot_submit_is_one_statement(door: Door) -> None:
    door.accepted()
    statements: list[str] = []
    run = door.core.database.run

    def counted(statement: str, parameters: object = None) -> object:
        if threading.current_thread().name == "AnyIO worker thread":
            statements.append(statement.split(None, 1)[0])
        return run(statement, parameters)  # type: ignore[arg-type]

    door.core.database.run = counted  # type: ignore[method-assign, assignment]
    door.accepted()
    assert statements == ["WITH"]
