"""The `fleet` command from outside: real processes, the whole local stack, what lies on disk afterwards."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
import pytest

from cli.stack import Stack
from tests.support.media_files import dicom_files, nifti
from tests.support.volumes import volume_of

EXAMPLES = Path(__file__).parents[2] / "examples"
SCAN = EXAMPLES / "data" / "head-t1.nii.gz"
SEGMENT = ("submit", "segmentation", "--model", "brain-extraction")
#: Some ten seconds: longer than any test here lets it run.
LONG = ("submit", "echo", "--model", "echo", "-p", "repeat=1000000")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environment = {"LEASE_S": "3", "RECONCILE_EVERY_S": "0.5"}
    with Stack(tmp_path_factory.mktemp("fleet"), workers=1, durable=False, environment=environment) as running:
        yield running


class Fleet:
    """Runs `fleet ...` in a folder of its own; it finds the server by the stack's data folder alone."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.folder = folder
        self._data = data
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        # Where the tests themselves ignore Ctrl-C, as below a shell's `&`, the child would inherit that.
        code = "import signal, cli.main; signal.signal(signal.SIGINT, signal.default_int_handler); cli.main.main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments), "--data", str(self._data)],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """Standard output, after the command ended with `code`."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"{arguments} ended with {process.returncode}:\n{out}\n{err}"
        assert "Traceback" not in err
        self.err = err
        return out

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


def read_until_running(waiting: subprocess.Popen[str]) -> None:
    """Reads the progress of a command until its job runs."""
    assert waiting.stderr is not None
    assert any("running" in line for line in iter(waiting.stderr.readline, ""))


@pytest.fixture
def fleet(stack: Stack, tmp_path: Path) -> Fleet:
    return Fleet(stack.layout.root, tmp_path)


def test_a_scan_becomes_a_mask_on_disk(fleet: Fleet) -> None:
    shown = fleet(*SEGMENT, SCAN, "-o", "out", "--label", "study=A17", "-p", "mirror=false")
    words = " ".join(shown.split())
    assert "mask out/mask.nii.gz" in words
    assert "preview out/preview.png" in words
    assert "provider CPUExecutionProvider" in words
    assert "1 brain" in words
    assert {"queue", "fetch", "decode", "infer", "store", "rest", "total"} <= set(words.split())
    assert "running: infer" in fleet.err
    mask = nibabel.Nifti1Image.from_filename(fleet.folder / "out" / "mask.nii.gz")
    assert mask.shape == nibabel.Nifti1Image.from_filename(SCAN).shape
    # What is said on the screen is what lies on disk.
    (job,) = fleet.json("jobs", "list", "--label", "study=A17")
    (brain,) = json.loads(fleet("jobs", "result", job["id"]))["labels"]
    assert brain["voxels"] == np.count_nonzero(np.asarray(mask.dataobj))
    assert f"{brain['volume_ml']:,.2f}" in words
    assert job["inputs"][0]["sha256"] == hashlib.sha256(SCAN.read_bytes()).hexdigest()
    fleet("jobs", "save", job["id"], "-o", "again")
    for name in ("mask.nii.gz", "preview.png"):
        assert (fleet.folder / "again" / name).read_bytes() == (fleet.folder / "out" / name).read_bytes()


def test_a_folder_of_dicom_files_becomes_a_mask(fleet: Fleet) -> None:
    series = fleet.folder / "series"
    series.mkdir()
    dicom_files(series, volume_of(np.arange(24 * 32 * 40, dtype=np.int16).reshape(24, 32, 40)))
    (series / "readme.txt").write_text("not an image")
    job = fleet.json(*SEGMENT, series, "-o", "out", "-p", "mirror=false", "-p", "format=nrrd", "-p", "preview=false")
    assert (job["state"], job["inputs"][0]["name"]) == ("succeeded", "series.zip")
    assert [Path(path).name for path in job["files"]] == ["mask.nrrd"]
    assert (fleet.folder / "out" / "mask.nrrd").read_bytes().startswith(b"NRRD")


def test_a_damaged_file_fails_the_job_and_the_command(fleet: Fleet) -> None:
    (fleet.folder / "cut.nii.gz").write_bytes(SCAN.read_bytes()[:100_000])
    job = fleet.json(*SEGMENT, "cut.nii.gz", "-o", "out", code=1)
    assert (job["state"], job["error"]["code"], job["files"]) == ("failed", "truncated-gzip", [])
    assert fleet.err.splitlines()[-1].endswith("[truncated-gzip]")
    assert not (fleet.folder / "out").exists()


def test_submit_without_waiting_and_wait_later(fleet: Fleet) -> None:
    job_id = fleet("submit", "echo", "--model", "echo", "-p", "values=[1.5,2]", "--no-wait").strip()
    assert fleet.json("jobs", "wait", job_id)["result"] == {"values": [1.5, 2.0]}
    assert fleet.json("jobs", "show", job_id)["state"] == "succeeded"


def test_the_same_key_is_the_same_job(fleet: Fleet) -> None:
    submit = (*SEGMENT, SCAN, "--no-wait", "--idempotency-key", "once")
    first = fleet(*submit)
    assert fleet(*submit) == first
    fleet(*submit, "-p", "threshold=0.7", code=2)
    fleet("jobs", "cancel", first.strip())


def test_a_cancelled_job_ends_its_waiting_command(fleet: Fleet) -> None:
    job_id = fleet(*LONG, "--no-wait").strip()
    waiting = fleet.start("jobs", "wait", job_id, "--json")
    read_until_running(waiting)
    assert fleet("jobs", "cancel", job_id).split()[1] in ("cancelling", "cancelled")
    out, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, json.loads(out)["state"]) == (6, "cancelled")
    fleet("jobs", "result", job_id, code=6)


def test_a_job_past_its_deadline_ends_the_command(fleet: Fleet) -> None:
    assert fleet.json(*LONG, "--deadline", 2, code=6)["state"] == "expired"


def test_a_timeout_ends_the_waiting_and_not_the_job(fleet: Fleet) -> None:
    job_id = fleet(*LONG, "--no-wait").strip()
    fleet("jobs", "wait", job_id, "--timeout", 1, code=7)
    assert fleet.json("jobs", "show", job_id)["state"] in ("queued", "running")
    fleet("jobs", "cancel", job_id)


def test_ctrl_c_leaves_the_job_or_cancels_it(fleet: Fleet) -> None:
    job_id = fleet(*LONG, "--no-wait").strip()
    for option, ends_as in ((None, "running"), ("--cancel-on-interrupt", "cancelled")):
        waiting = fleet.start("jobs", "wait", job_id, *([option] if option else []))
        read_until_running(waiting)
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=60)
        assert (waiting.returncode, job_id in err) == (130, True)
        assert "Traceback" not in err
        if option is None:
            assert f"fleet jobs wait {job_id}" in err
            assert fleet.json("jobs", "show", job_id)["state"] == ends_as
    fleet("jobs", "wait", job_id, code=6)


def test_waiting_survives_a_restart_of_the_api(stack: Stack, fleet: Fleet) -> None:
    job_id = fleet("submit", "echo", "--model", "echo", "-p", "repeat=300000", "--no-wait").strip()
    waiting = fleet.start("jobs", "wait", job_id, "--json")
    read_until_running(waiting)
    os.kill(stack.pids["api"], signal.SIGKILL)
    while waiting.poll() is None:
        stack.tick()
        time.sleep(0.1)
    out, _ = waiting.communicate()
    assert (waiting.returncode, json.loads(out)["state"]) == (0, "succeeded")


@pytest.mark.parametrize("example", ["segment.py", "segment.sh"])
def test_the_examples_run(stack: Stack, tmp_path: Path, example: str) -> None:
    if example.endswith(".sh") and not (shutil.which("curl") and shutil.which("jq")):
        pytest.skip("needs curl and jq")
    scan = nifti(tmp_path / "scan.nii", np.arange(24 * 32 * 40, dtype=np.int16).reshape(24, 32, 40))
    command = [sys.executable] if example.endswith(".py") else ["bash"]
    done = subprocess.run(
        [*command, str(EXAMPLES / example), str(scan), str(tmp_path / "out")],
        env={**os.environ, "FLEET_URL": stack.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("brain: ")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mask.nii.gz", "preview.png"}


def test_the_example_that_follows_a_job_runs(stack: Stack, fleet: Fleet) -> None:
    job_id = fleet("submit", "echo", "--model", "echo", "-p", "repeat=600000", "--no-wait").strip()
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "follow_a_job.py"), job_id],
        env={**os.environ, "FLEET_URL": stack.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "running infer" in done.stdout
    assert done.stdout.splitlines()[-1] == "succeeded 100%"


def test_what_the_server_refuses_is_told_in_one_line(fleet: Fleet) -> None:
    fleet(*SEGMENT, SCAN, "-p", "threshold=7", code=2)
    assert "#/params/threshold" in fleet.err
    fleet("submit", "segmentation", "--model", "no-such-model", SCAN, code=3)
    fleet("submit", "detection", "--model", "brain-extraction", SCAN, code=2)
    fleet("jobs", "show", "00000000-0000-7000-8000-000000000000", code=3)


def test_models_are_those_of_the_worker(fleet: Fleet) -> None:
    models = {model["name"]: model for model in fleet.json("models", "list")}
    assert models["brain-extraction"]["ready_workers"] == 1
    assert "mirror" in fleet("models", "show", "brain-extraction")


def test_the_demo_shows_its_result_and_leaves_nothing_running(tmp_path: Path) -> None:
    before = {process.pid for process in psutil.process_iter()}
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert f"mask {tmp_path}/out/mask.nii.gz" in words
    assert f"preview {tmp_path}/out/preview.png" in words
    assert "provider CPUExecutionProvider" in words
    assert "brain volume 1,4" in words
    assert {"queue", "load", "fetch", "decode", "prepare", "infer", "finish", "encode", "store", "rest"} <= set(
        words.split()
    )
    assert (tmp_path / "out" / "preview.png").read_bytes().startswith(b"\x89PNG")
    left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and str(tmp_path) in str(p.info)]
    assert left == []


def test_a_demo_that_cannot_start_says_where_its_logs_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "--data", str(tmp_path / "file"), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "[data-folder-unusable]" in done.stderr
    assert str(tmp_path / "file" / "logs") in done.stderr
    assert "Traceback" not in done.stderr
