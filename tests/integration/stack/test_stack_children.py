"""The supervisor and the real servers: what it does when they die, get slow, or find their port taken."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.stack import Stack, identity
from cli.stack.layout import Layout
from cli.stack.reap import reap
from cli.stack.state import State, save
from fleet.errors import DependencyError
from fleet.settings import Settings
from tests.support.kept_data import assert_data_kept, keep_data
from tests.support.servers import external_of
from tests.support.up_process import processes_of
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), api=False, workers=0) as running:
        keep_data(running.settings())
        yield running


@pytest.mark.parametrize("name", ["valkey", "postgres", "seaweedfs"])
def test_killed_server_is_started_again_with_all_it_had(stack: Stack, name: str) -> None:
    pid = stack.pids[name]
    os.kill(pid, signal.SIGKILL)

    def healthy_again() -> bool:
        stack.tick()
        return stack.pids.get(name) not in (pid, None) and stack.status().healthy

    eventually(healthy_again)
    log = stack.layout.supervisor_log.read_text("utf-8")
    assert f"{name} ended code=-9 again_in_s=0.5" in log
    assert log.count(f"{name} healthy") == 2
    child = next(child for child in stack.status().children if child.name == name)
    assert (child.restarts, child.last_exit) == (1, -9)
    assert_data_kept(stack.settings())


def test_port_that_is_lost_between_choosing_and_listening_is_replaced(tmp_path: Path) -> None:
    squatters: list[socket.socket] = []

    def take_redis_port(event: str) -> None:
        if event.startswith("seaweedfs started") and not squatters:
            port = json.loads((tmp_path / "stack.json").read_text("utf-8"))["ports"]["redis"]
            squatters.append(socket.create_server(("127.0.0.1", port)))

    try:
        with Stack(tmp_path, api=False, workers=0, durable=False, listener=take_redis_port) as stack:
            lost = squatters[0].getsockname()[1]
            assert f":{lost}/" not in stack.environment["REDIS_URL"]
            assert f"valkey lost its ports to somebody else ports=[{lost}]" in stack.layout.supervisor_log.read_text()
    finally:
        for squatter in squatters:
            squatter.close()


def test_server_that_cannot_start_fails_the_start_with_the_end_of_its_log(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    save(layout, State())
    cluster = layout.postgres / "data"
    cluster.mkdir(mode=0o700)
    (cluster / "PG_VERSION").write_text("not a number\n", "ascii")
    with pytest.raises(DependencyError, match=r"(?s)postgres ended with code \d+ while starting.*data") as caught:
        Stack(tmp_path, api=False, workers=0).start()
    assert caught.value.code == "process-not-ready"
    assert processes_of(tmp_path) == []


def test_only_processes_that_are_really_ours_are_ended(settings: Settings, tmp_path: Path) -> None:
    """`pids.json` of a supervisor that was killed: one pid is still its child, the other is somebody else's by now."""
    command = [sys.executable, "-c", "import time; time.sleep(300)"]
    with subprocess.Popen(command, start_new_session=True) as ours, subprocess.Popen(command) as foreign:
        record = {
            "ours": {"pid": ours.pid, "started": identity.started(ours.pid), "stop_signal": signal.SIGTERM},
            "foreign": {"pid": foreign.pid, "started": "an earlier boot:1", "stop_signal": signal.SIGTERM},
        }
        layout = Layout(tmp_path)
        layout.create()
        layout.pids_file.write_text(json.dumps(record), "utf-8")
        try:
            with Stack(tmp_path, api=False, workers=0, external=external_of(settings)):
                assert ours.wait(10) == -signal.SIGTERM
                assert foreign.poll() is None
        finally:
            ours.kill()
            foreign.kill()


def test_leftover_that_ignores_its_stop_signal_is_killed(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()",
    ]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        record = {"x": {"pid": stubborn.pid, "started": identity.started(stubborn.pid), "stop_signal": signal.SIGTERM}}
        (tmp_path / "pids.json").write_text(json.dumps(record), "utf-8")
        assert reap(tmp_path / "pids.json", grace_s=0.2) == ["x"]
        assert stubborn.wait(10) == -signal.SIGKILL
