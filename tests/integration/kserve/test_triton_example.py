"""What the how-to and the example show runs as it stands there."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.support.clone import ROOT
from tests.support.triton_stack import Stack

PAGE = (ROOT / "docs" / "how-to" / "triton-clients.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("model", "printed"),
    [
        ("add-sub", "OUTPUT0 int32 [1, 16] [2, 2, 2, 2, 2, 2, 2, 2]\nOUTPUT1 int32 [1, 16] [0, 0, 0, 0, 0, 0, 0, 0]\n"),
        ("strings", "same object [1] [b'1']\n"),
        ("half", "y float16 [1, 2] [1.0, 1.0]\n"),
    ],
)
def test_the_example_prints_what_comes_back(stack: Stack, model: str, printed: str) -> None:
    ended = run_example(stack, model)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", printed)


def test_the_example_says_what_is_wrong(stack: Stack) -> None:
    ended = run_example(stack, "nobody")
    assert ended.returncode == 2
    assert ended.stderr.startswith("there is no model 'nobody'")


def run_example(stack: Stack, model: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "triton_client.py", model],
        env={**os.environ, "FLEET_URL": stack.door.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_python_of_the_how_to_runs(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("127.0.0.1:8000", stack.address), names)
    assert names["result"].as_numpy("OUTPUT0").tolist() == [list(range(1, 17))]
    names["client"].close()
    assert "[[ 1  2" in capsys.readouterr().out


def test_the_curl_of_the_how_to_answers_what_it_says(stack: Stack) -> None:
    (body, answer) = re.findall(r"-d '(.*?)'\n```\n```json\n(.*?)```", PAGE, re.DOTALL)[0]
    sent = {"content-type": "application/x-www-form-urlencoded"}
    assert stack.door.http.post("/v2/models/strings/infer", content=body, headers=sent).json() == json.loads(answer)
