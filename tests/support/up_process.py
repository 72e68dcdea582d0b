"""`fleet up` as a user starts it, seen from outside."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import redis

from cli.stack import identity, postgres, seaweedfs, valkey
from cli.stack.layout import Layout
from cli.stack.state import State, load
from cli.stack.status import StackStatus, read_status
from fleet.settings import Settings
from tests.support.waiting import eventually


class UpProcess:
    """One `fleet up --data ...`; its output goes to `up.out` beside the data folder."""

    def __init__(self, data: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self.layout = Layout(data)
        self._output = data.with_name(f"{data.name}.out")
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "up", "--data", str(data), *options],
                cwd=data.parent,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._output.read_text("utf-8")

    @property
    def state(self) -> State:
        return load(self.layout)

    @property
    def status(self) -> StackStatus:
        found = read_status(self.layout.status_file)
        assert found is not None
        return found

    @property
    def settings(self) -> Settings:
        state = self.state
        own = {**valkey.settings(state), **postgres.settings(state), **seaweedfs.settings(state)}
        return Settings(_env_file=None, **{name.lower(): value for name, value in own.items()})  # type: ignore[arg-type]

    def wait_healthy(self) -> "UpProcess":
        def healthy() -> bool:
            assert self.process.poll() is None, self.output
            found = read_status(self.layout.status_file)
            return found is not None and found.pid == self.process.pid and found.healthy

        eventually(healthy)
        return self

    def wait(self, timeout_s: float = 60.0) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


@contextmanager
def fleet_up(data: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[UpProcess]:
    """Healthy when the block begins; gone, one way or the other, when it is left."""
    up = UpProcess(data, *options, environment=environment)
    try:
        yield up.wait_healthy()
    finally:
        if up.process.poll() is None:
            up.stop()


def processes_of(data: Path) -> list[psutil.Process]:
    """All processes whose working folder or argv is in the data folder, zombies left out."""
    found = []
    for process in psutil.process_iter():
        try:
            places = [process.cwd(), *process.cmdline()]
            if process.status() != psutil.STATUS_ZOMBIE and any(place.startswith(f"{data}/") for place in places):
                found.append(process)
        except psutil.Error:
            continue
    return found


def orphans_of(data: Path, supervisor: int) -> list[psutil.Process]:
    """Those among them that are neither the supervisor nor below it."""
    found = []
    for process in processes_of(data):
        with suppress(psutil.NoSuchProcess):
            if supervisor not in (process.pid, *(parent.pid for parent in process.parents())):
                found.append(process)
    return found


def sync_redis(settings: Settings) -> None:
    """Returns when everything written so far is in the append-only file, fsynced."""
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        assert client.execute_command("WAITAOF", 1, 0, 5000)[0] == 1


def is_running(pid: int) -> bool:
    return identity.started(pid) is not None
