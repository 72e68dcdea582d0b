"""`python -m api` as a process: what it refuses, what it says, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from fleet.catalogue import Catalogue
from fleet.database import Database
from fleet.settings import Settings
from tests.support.event_listener import listening
from tests.support.fleet_of_one import environment_of, job_store, new_job
from tests.support.front_door import card
from tests.support.waiting import eventually

KEY = "a-key-that-is-secret"


@contextmanager
def api_process(settings: Settings, folder: Path, **changes: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = folder / "api.log"
    environment = environment_of(settings, API_HOST="127.0.0.1", API_PORT="0", **changes)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "api"], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()


def events(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def url_of(process: "subprocess.Popen[bytes]", log: Path) -> str:
    eventually(lambda: process.poll() is not None or re.search(r'"event": "listening"', log.read_text()))
    assert process.poll() is None, log.read_text()
    (port,) = [event["port"] for event in events(log) if event["event"] == "listening"]
    return f"http://127.0.0.1:{port}"


def refused(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "api"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_does_not_listen_to_the_world_without_keys(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "fleet.example"):
        ended = refused(tmp_path, API_HOST=host)
        assert ended.returncode == 2
        (line,) = ended.stderr.strip().splitlines()
        assert "API_KEYS" in line
        assert "Traceback" not in ended.stderr


def test_unusable_settings_are_one_line_each_and_never_repeat_a_secret(tmp_path: Path) -> None:
    for environment in ({"API_KEYS": KEY}, {"API_PORT": "many"}, {"REDIS_URL": "", "API_PORT": "-1"}):
        ended = refused(tmp_path, **environment)
        assert ended.returncode == 2, ended.stderr
        assert "Traceback" not in ended.stderr
        assert KEY not in ended.stderr
        assert ended.stderr.startswith("error: ")


def test_it_says_where_it_listens_and_that_anybody_may_enter(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MINIO_ENDPONT=x\n# A comment\nLOG_LEVEL=INFO\n")
    with api_process(settings, tmp_path) as (process, log):
        answer = httpx.get(f"{url_of(process, log)}/api/v1/jobs?label=patient:smith", trust_env=False)
        assert answer.status_code == 200
        assert "server" not in answer.headers
        eventually(lambda: [event for event in events(log) if event["event"] == "request"])
        said = events(log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert [event for event in said if "authentication is off" in str(event["event"])]
    assert [event["name"] for event in said if "unknown name" in str(event["event"])] == ["MINIO_ENDPONT"]
    (request,) = [event for event in said if event["event"] == "request"]
    assert (request["route"], request["status"], request["method"]) == ("/api/v1/jobs", 200, "GET")
    assert request["request_id"] == answer.headers["x-request-id"]


def test_neither_keys_nor_queries_reach_the_log(settings: Settings, tmp_path: Path) -> None:
    with api_process(settings, tmp_path, API_KEYS=f"alice:{KEY}") as (process, log):
        url = url_of(process, log)
        for headers in ({"X-API-Key": KEY}, {"Authorization": "Bearer another-secret"}):
            httpx.get(f"{url}/api/v1/jobs?label=patient:smith", headers=headers, trust_env=False)
        httpx.post(f"{url}/api/v1/uploads?name=smith.nii", content=b"a", headers={"X-API-Key": KEY}, trust_env=False)
        eventually(lambda: len([event for event in events(log) if event["event"] == "request"]) == 3)
        process.terminate()
        assert process.wait(30) == 0
        text = log.read_text()
    assert '"tenant": "alice"' in text
    assert "authentication is off" not in text
    for secret in (KEY, "another-secret", "smith", settings.minio_secret_key.get_secret_value()):
        assert secret not in text
    assert settings.database_dsn.split(":")[2].split("@")[0] not in text


def test_told_to_end_it_lets_waiters_go_and_ends_with_0(settings: Settings, tmp_path: Path) -> None:
    with Database(settings.database_dsn) as database:
        Catalogue(database).announce_cards([card()], "test-worker")
    with api_process(settings, tmp_path) as (process, log), ThreadPoolExecutor(1) as thread:
        url = url_of(process, log)
        body = {"model": "text", "inputs": [{"data": "YQ=="}]}

        def submit() -> httpx.Response:
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
                return http.post("/api/v1/jobs", json=body, headers={"Prefer": "wait=50"})

        waiting = thread.submit(submit)
        with httpx.Client(base_url=url, trust_env=False) as http:
            eventually(lambda: http.get("/api/v1/jobs").json()["jobs"])
        process.send_signal(signal.SIGTERM)
        answer = waiting.result(timeout=40)
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        assert process.wait(30) == 0


def test_told_to_end_it_ends_its_event_streams_in_order(settings: Settings, tmp_path: Path) -> None:
    with job_store(settings) as jobs:
        job_id = str(jobs.submit(new_job()).job.id)
    with api_process(settings, tmp_path) as (process, log):
        url = url_of(process, log)
        with listening(url, job_id) as first, listening(url, job_id) as second:
            for heard in (first, second):
                heard.hears("job.queued")
            process.send_signal(signal.SIGTERM)
            for heard in (first, second):
                heard.finishes()
            assert process.wait(30) == 0
    assert [event for event in events(log) if event.get("level") == "error"] == []
