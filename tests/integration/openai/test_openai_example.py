"""What the how-to and the example show runs as it stands there."""

import os
import subprocess
import sys

import pytest

from tests.support.clone import ROOT
from tests.support.front_door import Door
from tests.support.openai_page import run_page
from tests.support.tiny_embedder import MODEL, WIDTH, expected


def test_the_example_prints_the_nearest_first(door: Door) -> None:
    ended = run_example(door, MODEL, "the red cat", "the green dog", "red cat")
    assert (ended.returncode, ended.stderr) == (0, "14 tokens\n")
    near = float(expected("the red cat") @ expected("red cat"))
    far = float(expected("the red cat") @ expected("the green dog"))
    assert ended.stdout == f"{near:.3f}  red cat\n{far:.3f}  the green dog\n"


def test_the_example_says_what_is_wrong(door: Door) -> None:
    ended = run_example(door, "nobody", "red", "blue")
    assert ended.returncode == 2
    assert ended.stderr.startswith("model_not_found: there is no model 'nobody'")


def run_example(door: Door, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "openai_embeddings.py", *words],
        env={**os.environ, "FLEET_URL": door.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_python_of_the_page_runs(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run_page(door, "openai")["made"].data) == 2
    assert f"2 {WIDTH} 10\n" in capsys.readouterr().out
