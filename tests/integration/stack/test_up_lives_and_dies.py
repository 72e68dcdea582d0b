"""`fleet up` through signals, crashes and restarts, from outside."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.support.kept_data import assert_data_kept, keep_data
from tests.support.up_process import UpProcess, fleet_up, is_running, orphans_of, processes_of
from tests.support.waiting import eventually

#: No worker: what is tested here is the same for every kind of child, and this one is the slowest to start.
FEW = ("--workers", "0", "--port", "0")


def fleet(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_data_and_ports_survive_an_orderly_stop_and_a_killed_supervisor(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with fleet_up(data, *FEW) as up:
        ports = up.state.ports
        keep_data(up.settings)
        assert up.stop() == 0
    assert processes_of(data) == []

    with fleet_up(data, *FEW) as up:
        assert {**up.state.ports, "api": 0} == {**ports, "api": 0}
        assert_data_kept(up.settings)
        former = [child.pid for child in up.status.children if child.pid is not None]
        up.process.kill()
        up.wait()

    with fleet_up(data, *FEW) as up:
        assert not [pid for pid in former if is_running(pid)]
        assert orphans_of(data, up.process.pid) == []
        assert_data_kept(up.settings)
    assert processes_of(data) == []


def test_ctrl_c_during_the_start_aborts_it_and_leaves_no_process(tmp_path: Path) -> None:
    data = tmp_path / "data"
    up = UpProcess(data, *FEW)
    eventually(up.layout.pids_file.exists)
    up.process.send_signal(signal.SIGINT)
    assert up.wait() == 2
    assert "interrupted" in up.output
    assert "stack healthy" not in up.layout.supervisor_log.read_text("utf-8")
    assert processes_of(data) == []


def test_detached_stack_answers_when_the_command_returns_and_down_ends_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    begun = fleet("up", "--data", data, "--detach", *FEW)
    assert begun.returncode == 0, begun.stderr
    try:
        told = json.loads(fleet("status", "--data", data, "--json").stdout)
        assert told["healthy"]
        assert told["url"] in begun.stdout
        with urllib.request.urlopen(told["url"] + "/readyz") as answer:
            assert answer.status == 200
    finally:
        assert fleet("down", "--data", data).returncode == 0
    assert processes_of(data) == []
    assert fleet("status", "--data", data).returncode == 3
    assert fleet("down", "--data", data).returncode == 0


def test_detached_start_that_fails_says_why(tmp_path: Path) -> None:
    data = tmp_path / "data"
    said = fleet("up", "--data", data, "--detach", "--workers", "0", "--models", tmp_path / "nowhere")
    assert said.returncode == 2
    assert "models-folder-missing" in said.stderr
    assert processes_of(data) == []


def test_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = fleet("up", "--data", tmp_path / "data", "--workers", "0", "--port", port)
    assert said.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in said.stderr
