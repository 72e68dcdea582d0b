"""A file of texts through client and command, front door, object store and a real worker, to a file of vectors."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cli.main import run
from fleet.settings import Settings
from fleet_client import Client, JobFailed
from tests.support.fleet_of_one import ROOT, worker_process
from tests.support.front_door import Door, front_door
from tests.support.tiny_embedder import MODEL, WIDTH, expected, make_model
from tests.support.waiting import eventually

TEXTS = [f"the {colour} {animal}" for colour in ("red", "green", "blue") for animal in ("cat", "dog")] * 800


@pytest.fixture
def door(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    make_model(tmp_path / "models", device="cpu-only")
    worker = worker_process(settings, tmp_path / "worker", MODELS_PATH=str(tmp_path / "models"))
    with front_door(settings, max_wait_s=60) as opened, worker:
        eventually(opened.core.catalogue.workers)
        monkeypatch.setenv("FLEET_URL", opened.url)
        yield opened


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def test_a_file_of_texts_becomes_a_file_of_vectors(
    door: Door, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = np.array([expected(text) for text in TEXTS], np.float32)
    with Client(door.url) as fleet:
        job = fleet.embed_file(texts, model=MODEL, labels={"of": "test"})
        shown: list[float] = []
        job.wait(lambda record: shown.append(record.progress), timeout=60)
        np.testing.assert_allclose(np.load(fleet.save_embeddings(job, tmp_path / "client.npy")), wanted, atol=1e-6)
        assert (job.record.lane, job.record.progress) == ("bulk", 1.0)
        assert shown == sorted(shown)
        eventually(lambda: door.core.objects.keys(f"results/{job.id}/parts/") == [])
        assert len(door.core.objects.keys(f"results/{job.id}/")) == 2, "the parts went when it had ended"

        few = fleet.embed(TEXTS[:3], model=MODEL)
        np.testing.assert_allclose(np.array(list(few)), wanted[:3], atol=1e-6)
        with pytest.raises(JobFailed, match="text 1 is empty"):
            fleet.embed(["red", ""], model=MODEL)

    assert run(["embed", str(texts), "-m", MODEL, "--count", "2500", "-o", str(tmp_path / "command.npy")]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "command.npy"), wanted[:2500], atol=1e-6)
    assert f"2,500 vectors of {WIDTH} numbers" in capsys.readouterr().out
    assert run(["embed", "the red cat", "-m", MODEL]) == 0
    assert f"1 vector of {WIDTH} numbers, 5 tokens" in capsys.readouterr().out

    example = [sys.executable, ROOT / "examples" / "embed_a_file.py", texts, tmp_path / "example.npy", MODEL]
    ended = subprocess.run(example, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f"4,800 vectors of {WIDTH} numbers" in ended.stdout
    np.testing.assert_allclose(np.load(tmp_path / "example.npy"), wanted, atol=1e-6)
