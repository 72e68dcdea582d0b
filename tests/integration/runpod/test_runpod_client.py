"""RunPod's own Python client, every call that it has."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from fleet.contracts import MediaKind, ResultKind
from fleet.settings import Settings
from tests.support.classifiers import MODEL
from tests.support.clone import ROOT
from tests.support.front_door import card, front_door
from tests.support.picture_stack import GREEN, RED, PictureStack, base64_of

CALLS = ROOT / "tests" / "support" / "runpod_calls.py"
GONE = card("nobody-runs-this", task="image-classification", accepts=MediaKind.IMAGE, returns=ResultKind.ITEMS)


def asked(url: str, home: Path, *words: str) -> Any:
    environment = {**os.environ, "RUNPOD_ENDPOINT_BASE_URL": f"{url}/runpod/v2", "HOME": str(home), "NO_PROXY": "*"}
    ended = subprocess.run(
        [sys.executable, CALLS, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def top(output: dict[str, Any]) -> str:
    assert output["success"] is True
    assert set(output) == {"success", "result", "metadata"}
    return str(output["result"]["top_class"])


def test_every_call_of_the_client_does_what_it_says(stack: PictureStack, tmp_path: Path) -> None:
    stack.door.announce(GONE)
    told = asked(stack.door.url, tmp_path, "any-key", MODEL, base64_of(RED), base64_of(GREEN))
    sync, later = told["sync"], told["async"]
    assert [top(sync[call]) for call in ("output", "bare", "run_sync", "default")] == ["red", "red", "green", "green"]
    assert sync["status"] == "COMPLETED"
    assert [("result" in item, item["index"]) for item in sync["stream"]] == [(True, 0), (True, 1), (False, 2)]
    assert sync["many"] == 3
    assert (sync["broken_status"], sync["broken"]["error"]["code"]) == ("FAILED", "not-a-picture")
    assert sync["retried"]["status"] == "IN_QUEUE"
    assert sync["listed"] == 1
    assert (sync["cancelled"]["status"], sync["cancelled"]["same"], sync["cancelled"]["then"]) == (
        "CANCELLED", True, "CANCELLED")  # fmt: skip
    assert sync["purged"]["status"] == "completed"
    assert "400" in sync["empty"]
    assert {"jobs", "workers"} <= set(sync["health"])
    assert (top(later["output"]), later["status"], later["cancelled"]) == ("red", "COMPLETED", "CANCELLED")
    assert [top(piece) for piece in later["stream"]] == ["red"]
    assert later["health"]["jobs"]["completed"] >= 5
    assert later["purged"]["status"] == "completed"


def test_the_example_prints_the_answers(stack: PictureStack, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(RED)
    (tmp_path / "green.png").write_bytes(GREEN)
    one = example(stack, tmp_path, MODEL, "red.png")
    assert (one.returncode, json.loads(one.stdout)["top_class"]) == (0, "red"), one.stderr
    many = example(stack, tmp_path, MODEL, "red.png", "green.png")
    told = [line.partition(" ") for line in many.stdout.splitlines()]
    assert [(name, json.loads(answer)["top_class"]) for name, _, answer in told] == [
        ("red.png", "red"), ("green.png", "green")]  # fmt: skip
    missing = example(stack, tmp_path, "nobody", "red.png")
    assert missing.returncode == 2
    assert missing.stderr.startswith("there is no model 'nobody'")


def example(stack: PictureStack, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "runpod_client.py", *words],
        cwd=folder,
        env={**os.environ, "FLEET_URL": stack.door.url, "HOME": str(folder), "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_key_opens_the_door_with_and_without_bearer_and_a_wrong_one_does_not(
    settings: Settings, tmp_path: Path
) -> None:
    with front_door(settings, api_keys=SecretStr("north:right")) as door:
        assert "jobs" in asked(door.url, tmp_path, "right", "default")
        assert "401" in asked(door.url, tmp_path, "wrong", "default")
        path = "/runpod/v2/default/health"
        statuses = {
            sent: door.http.get(path, headers={"authorization": sent}).status_code
            for sent in ("right", "Bearer right", "wrong", "Basic right", "")
        }
        assert statuses == {"right": 200, "Bearer right": 200, "wrong": 401, "Basic right": 401, "": 401}
        for short, status in (("/models", 401), ("/inference", 401), ("/healthz", 200)):
            answer = door.http.request("POST" if short == "/inference" else "GET", short)
            assert (answer.status_code, "detail" in answer.json()) == (status, status == 401)
        # Only here: elsewhere a key says what it is.
        assert door.http.get("/api/v1/jobs", headers={"authorization": "right"}).status_code == 401
