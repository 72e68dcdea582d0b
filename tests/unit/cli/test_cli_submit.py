"""`fleet submit` and `fleet jobs`: what they print, what they send, and how they end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.protocol_server import JOB_ID, Drop, ProtocolServer, problem
from tests.unit.cli.conftest import Fleet

LABELS = [{"value": 1, "name": "brain", "voxels": 1_234_567, "volume_ml": 1234.567}]
FAULT = {"code": "truncated-gzip", "message": "the file ends early", "retryable": False}


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"volume")
    return path


def segmented(server: ProtocolServer) -> dict[str, Any]:
    ended = server.succeeded(mask__nii__gz=b"mask", preview__png=b"png")
    ended["result"] = {
        "mask": "mask.nii.gz",
        "preview": "preview.png",
        "labels": LABELS,
        "facts": {"warnings": ["looks masked"]},
        "notice": "research use",
    }
    ended["timings"] = {"infer": 1.5, "queue": 0.25}
    ended["ran_on"] = {"provider": "CPUExecutionProvider", "device": "some cpu"}
    ended["finished_at"] = "2026-01-01T00:00:02Z"
    return ended


def submit(fleet: Fleet, scan: Path, *more: object) -> Any:
    return fleet("submit", "segmentation", "--model", "brain-extraction", scan, *more)


def test_submit_waits_saves_and_shows_the_result(
    fleet: Fleet, server: ProtocolServer, scan: Path, tmp_path: Path
) -> None:
    server.states = [server.job(), server.job("running", stage="infer"), segmented(server)]
    said = submit(fleet, scan, "-o", tmp_path / "out")
    assert said.code == 0
    assert (tmp_path / "out" / "mask.nii.gz").read_bytes() == b"mask"
    words = " ".join(said.out.split())
    for expected in [
        f"job {JOB_ID}", "state succeeded", "1 brain 1,234,567 1,234.57", "provider CPUExecutionProvider",
        f"mask {tmp_path}/out/mask.nii.gz", f"preview {tmp_path}/out/preview.png",
        "warning: looks masked", "research use",
    ]:  # fmt: skip
        assert expected in words
    assert [line.split() for line in said.out.splitlines() if line.startswith(("queue", "infer", "rest", "total"))] == [
        ["queue", "0.250", "12%"],
        ["infer", "1.500", "75%"],
        ["rest", "0.250", "12%"],
        ["total", "2.000"],
    ]
    assert said.err.splitlines() == [f"{JOB_ID} {step}" for step in ("queued", "running: infer", "succeeded")]


def test_submit_sends_what_was_asked(fleet: Fleet, server: ProtocolServer, scan: Path) -> None:
    said = submit(
        fleet, scan, "--no-wait", "-p", "preview=true", "-p", "format=nrrd", "-p", "threshold=0.25",
        "--priority", "urgent", "--label", "study=A=17", "--deadline", 60, "--idempotency-key", "mine",
        "--model-version", 2,
    )  # fmt: skip
    assert (said.code, said.out) == (0, f"{JOB_ID}\n")
    body = server.submitted["mine"]
    assert body["params"] == {"preview": True, "format": "nrrd", "threshold": 0.25}
    assert (body["priority"], body["deadline_s"], body["version"]) == ("urgent", 60.0, 2)
    assert body["labels"] == {"study": "A=17"}
    assert server.api.seen[0].headers["authorization"] == "Bearer the-key"


def test_json_is_the_job_with_its_files_and_nothing_else(
    fleet: Fleet, server: ProtocolServer, scan: Path, tmp_path: Path
) -> None:
    server.states = [server.job(), segmented(server)]
    said = submit(fleet, scan, "-o", tmp_path / "out", "--json")
    assert said.code == 0
    assert (said.json["id"], said.json["state"]) == (JOB_ID, "succeeded")
    assert said.json["files"] == [str(tmp_path / "out" / name) for name in ("mask.nii.gz", "preview.png")]


@pytest.mark.parametrize(("state", "code"), [("failed", 1), ("cancelled", 6), ("expired", 6)])
def test_a_bad_end_has_its_exit_code(
    fleet: Fleet, server: ProtocolServer, scan: Path, tmp_path: Path, state: str, code: int
) -> None:
    server.states = [server.job(), server.job(state, error=FAULT if state == "failed" else None)]
    said = submit(fleet, scan, "-o", tmp_path / "out", "--json")
    assert (said.code, said.json["state"], said.json["files"]) == (code, state, [])
    assert said.err.splitlines()[-1].startswith(f"fleet: job {JOB_ID} {state}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (401, "unauthorized", 4),
        (403, "forbidden", 4),
        (404, "model-not-found", 3),
        (409, "conflict", 8),
        (413, "input-too-large", 2),
        (422, "validation-failed", 2),
        (500, "internal-error", 5),
    ],
)
def test_a_refusal_has_its_exit_code_and_one_line(
    fleet: Fleet, server: ProtocolServer, scan: Path, status: int, code: str, exit_code: int
) -> None:
    server.api.fail("POST", "/api/v1/jobs", problem(status, code, "what was wrong"))
    said = submit(fleet, scan)
    assert (said.code, said.out) == (exit_code, "")
    assert said.err.splitlines()[0] == f"fleet: what was wrong [{status} {code}]"
    assert "Traceback" not in said.err


def test_a_missing_file_is_a_usage_error(fleet: Fleet, server: ProtocolServer, tmp_path: Path) -> None:
    said = submit(fleet, tmp_path / "none.nii")
    assert said.code == 2
    assert "none.nii" in said.err
    assert server.api.seen == []


@pytest.mark.parametrize(
    "wrong",
    [
        ["submit", "segmentation", "scan.nii"],
        ["submit", "segmentation", "-m", "m", "scan.nii", "-p", "no-value"],
        ["submit", "segmentation", "-m", "m", "scan.nii", "--priority", "yesterday"],
        ["jobs", "list", "--limit", "0"],
        ["jobs", "show"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_2_and_sends_nothing(fleet: Fleet, server: ProtocolServer, wrong: list[str]) -> None:
    said = fleet(*wrong)
    assert (said.code, said.out) == (2, "")
    assert "Usage: fleet" in said.err
    assert server.api.seen == []


def test_an_unreachable_server_is_5_with_a_hint(fleet: Fleet) -> None:
    said = fleet("jobs", "show", "x", "--url", "http://127.0.0.1:1")
    assert said.code == 5
    assert said.err.splitlines()[1].startswith("hint: ")


def test_a_timeout_is_7_and_the_job_goes_on(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job("running")]
    said = fleet("jobs", "wait", JOB_ID, "--timeout", 0)
    assert said.code == 7
    assert server.api.requests("POST") == []


def test_list_shows_whole_ids_and_json_shows_all(fleet: Fleet, server: ProtocolServer) -> None:
    server.listed = [server.job(id=f"{JOB_ID[:-1]}{number}", labels={"study": "A17"}) for number in range(5)]
    said = fleet("jobs", "list", "--limit", 3, "--label", "study=A17")
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == [job["id"] for job in server.listed[:3]]
    assert server.api.seen[0].query["label"] == ["study:A17"]
    assert [job["id"] for job in fleet("jobs", "list", "--json").json] == [job["id"] for job in server.listed]


def test_an_empty_list_is_empty_json(fleet: Fleet, server: ProtocolServer) -> None:
    assert fleet("jobs", "list", "--json").json == []
    said = fleet("jobs", "list")
    assert (said.code, said.out, said.err) == (0, "", "no jobs\n")


def test_show_tells_the_error(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job("failed", error=FAULT)]
    said = fleet("jobs", "show", JOB_ID)
    assert said.code == 0
    assert "the file ends early [truncated-gzip]" in said.out


def test_cancel_prints_the_new_state(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job("running")]
    assert fleet("jobs", "cancel", JOB_ID).out == f"{JOB_ID} cancelled\n"


def test_show_says_what_became_of_earlier_attempts(fleet: Fleet, server: ProtocolServer) -> None:
    lost = {"attempt": 1, "outcome": "worker-lost", "worker": "w1", "detail": "killed by SIGKILL"}
    server.states = [server.job("running", attempt=2, history=[lost | {"at": "2026-01-01T00:00:00Z"}])]
    shown = fleet("jobs", "show", JOB_ID).out
    assert all(word in shown for word in ("worker-lost", "w1", "killed by SIGKILL"))


def test_result_is_json(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [segmented(server)]
    assert fleet("jobs", "result", JOB_ID).json["labels"] == LABELS


def test_results_and_files_of_a_running_job_are_8(fleet: Fleet, server: ProtocolServer, tmp_path: Path) -> None:
    server.states = [server.job("running")]
    for command in (["jobs", "result", JOB_ID], ["jobs", "save", JOB_ID, "-o", tmp_path / "out"]):
        said = fleet(*command)
        assert (said.code, said.out) == (8, "")
        assert f"fleet jobs wait {JOB_ID}" in said.err


def test_save_prints_the_paths(fleet: Fleet, server: ProtocolServer, tmp_path: Path) -> None:
    server.states = [segmented(server)]
    said = fleet("jobs", "save", JOB_ID, "-o", tmp_path)
    assert said.out.splitlines() == [str(tmp_path / "mask.nii.gz"), str(tmp_path / "preview.png")]


def test_an_unwritable_folder_is_9(fleet: Fleet, server: ProtocolServer, tmp_path: Path) -> None:
    server.states = [segmented(server)]
    (tmp_path / "file").write_text("in the way")
    said = fleet("jobs", "save", JOB_ID, "-o", tmp_path / "file")
    assert said.code == 9
    assert "Traceback" not in said.err


def interrupted(server: ProtocolServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `fleet ...` in a process of its own, and interrupts it once it waits for the job."""
    # Where the tests themselves ignore the signal, as below a shell's `&`, the child would inherit that.
    code = "import signal, cli.main; signal.signal(signal.SIGINT, signal.default_int_handler); cli.main.main()"
    command = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "FLEET_URL": server.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    give_up = time.monotonic() + 60
    while not any(seen.path.endswith("/events") for seen in server.api.seen) and time.monotonic() < give_up:
        time.sleep(0.02)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=60)
    return subprocess.CompletedProcess(command.args, command.returncode, out, err)


def test_an_interrupt_leaves_the_job_and_says_how_to_come_back(server: ProtocolServer) -> None:
    server.states = [server.job("running")]
    done = interrupted(server, "jobs", "wait", JOB_ID)
    assert (done.returncode, done.stdout) == (130, "")
    assert f"fleet jobs wait {JOB_ID}" in done.stderr
    assert "Traceback" not in done.stderr
    assert server.api.requests("POST") == []


def test_an_interrupt_cancels_where_that_was_asked(server: ProtocolServer) -> None:
    server.states = [server.job("running")]
    done = interrupted(server, "jobs", "wait", JOB_ID, "--cancel-on-interrupt", "--json")
    assert (done.returncode, done.stdout) == (130, "")
    assert len(server.api.requests("POST", f"/api/v1/jobs/{JOB_ID}/cancel")) == 1


def test_waiting_goes_on_over_lost_connections(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job(), segmented(server)]
    server.api.fail("GET", f"/api/v1/jobs/{JOB_ID}", Drop, Drop)
    assert json.loads(fleet("jobs", "wait", JOB_ID, "--json").out)["state"] == "succeeded"


def test_events_are_a_line_each_up_to_the_end(fleet: Fleet, server: ProtocolServer) -> None:
    course = [server.job(), server.job(), server.job("running", stage="infer", progress=0.4), segmented(server)]
    server.states = list(course)
    said = fleet("jobs", "events", JOB_ID)
    assert said.code == 0
    assert [line.split(" ", 1)[1] for line in said.out.splitlines()] == [
        "queued 0%",
        "running: infer 40%",
        "succeeded 100%",
    ]
    server.states = list(course)
    lines = fleet("jobs", "events", JOB_ID, "--json").out.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["queued", "running", "succeeded"]


def test_events_of_a_job_that_fails_are_no_failure_of_the_command(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job("failed", error=FAULT)]
    said = fleet("jobs", "events", JOB_ID, "--json")
    assert (said.code, json.loads(said.out)["error"]["code"]) == (0, "truncated-gzip")


def test_brackets_in_names_are_text(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [
        server.job("failed", labels={"study": "[bold]A17"}, error={"code": "c", "message": "[red]x[/red]"})
    ]
    said = fleet("jobs", "show", JOB_ID)
    assert "study=[bold]A17" in said.out
    assert "[red]x[/red]" in said.out
