"""What others see of a running `fleet up`: secrets, files, a second instance, the command line's own way to it."""

import json
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import create_server

import pytest

from cli.stack.discovery import find_local
from tests.support.up_process import UpProcess, fleet_up, processes_of
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    """Started while the ports that such servers usually have are in use, whoever uses them."""
    with ExitStack() as taken:
        for port in (5432, 6379, 8000, 9000):
            with suppress(OSError):
                taken.enter_context(create_server(("127.0.0.1", port)))
        with fleet_up(tmp_path_factory.mktemp("up") / "data", "--workers", "0") as running:
            yield running


def test_usual_ports_in_use_do_not_matter_and_the_user_is_told_of_the_other_port(up: UpProcess) -> None:
    url = up.status.url
    assert url is not None
    assert not url.endswith(":8000")
    told = f"port 8000 is in use by another program, so the API listens on {up.state.ports['api']}"
    # The status file says that all is healthy a moment before the terminal does.
    eventually(lambda: told in up.output)
    with urllib.request.urlopen(f"{url}/readyz") as answer:
        assert answer.status == 200


def test_no_secret_is_in_an_argv_a_log_the_status_or_the_output(up: UpProcess) -> None:
    secrets = [secret for name, secret in up.state.secrets.items() if name != "s3_access"]
    assert len(secrets) == 8
    processes = processes_of(up.layout.root)
    assert len(processes) > 4
    shown = [" ".join(process.cmdline()) for process in processes]
    shown += [log.read_text("utf-8", "replace") for log in up.layout.logs.iterdir()]
    shown += [up.layout.status_file.read_text("utf-8"), up.output]
    assert not [text for text in shown if any(secret in text for secret in secrets)]


def test_only_the_owner_can_read_what_is_secret(up: UpProcess) -> None:
    layout = up.layout
    secret = [layout.state_file, layout.client_file, layout.status_file, layout.pids_file]
    secret += [layout.valkey / "valkey.conf", layout.objects / "identities.json", *layout.logs.iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    assert stat.S_IMODE(layout.root.stat().st_mode) & 0o077 in (0, 0o011)


def test_second_instance_on_the_same_data_is_refused_and_the_first_runs_on(up: UpProcess) -> None:
    command = [sys.executable, "-m", "cli.main", "up", "--data", str(up.layout.root), "--port", "0"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 3
    assert f"process {up.process.pid}" in said.stderr
    assert up.status.healthy
    assert find_local(up.layout.root) is not None


def test_other_commands_find_the_running_stack(up: UpProcess) -> None:
    assert find_local(up.layout.root) == (up.status.url, None)


def test_no_stack_is_found_where_none_runs(up: UpProcess, tmp_path: Path) -> None:
    assert find_local(tmp_path) is None
    told = json.loads(up.layout.client_file.read_text("utf-8"))
    told["started"] = "another boot:1"
    (tmp_path / "client.json").write_text(json.dumps(told), "utf-8")
    assert find_local(tmp_path) is None
