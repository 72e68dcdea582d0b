"""An api and several workers as processes of their own, each behind proxies of its own: whatever is done to one of
them, or to its way to a server, is done to it alone. The soak and the chaos tests break these.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from cli.stack.death_signal import die_with_parent, forking
from cli.stack.ports import free_port
from fleet.settings import Settings
from tests.support.fleet_of_one import environment_of
from tests.support.tcp_proxy import Proxy
from tests.support.waiting import eventually


class Links:
    """One process's ways to the three servers."""

    def __init__(self, settings: Settings) -> None:
        self._urls = {
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "DATABASE_URL": settings.database_dsn,
            "MINIO_ENDPOINT": f"http://{settings.minio_endpoint}",
        }
        self._public = settings.minio_public_endpoint or settings.minio_endpoint
        self.redis, self.postgres, self.objects = (Proxy(_port(url)) for url in self._urls.values())

    @property
    def all(self) -> tuple[Proxy, Proxy, Proxy]:
        return self.redis, self.postgres, self.objects

    @property
    def environment(self) -> dict[str, str]:
        """Settings that lead through the proxies. Presigned URLs lead past them: they are for callers."""
        pairs = zip(self._urls.items(), self.all, strict=True)
        through = {name: url.replace(f":{_port(url)}", f":{proxy.port}") for (name, url), proxy in pairs}
        through["MINIO_ENDPOINT"] = through["MINIO_ENDPOINT"].removeprefix("http://")
        return through | {"MINIO_PUBLIC_ENDPOINT": self._public}

    def close(self) -> None:
        for proxy in self.all:
            proxy.cut()


class FleetProcess:
    """`python -m api` or `python -m worker`. Start it in the main thread: it ends with the thread that started it."""

    def __init__(self, name: str, module: str, environment: Mapping[str, str], links: Links, folder: Path) -> None:
        self.name = name
        self.links = links
        self.log = folder / f"{name}.log"
        self.ready_file = folder / f"{name}.ready"
        self._module = module
        self._environment = {**environment, **links.environment, "WORKER_READY_FILE": str(self.ready_file)}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has exited; what it had started is gone then, too."""
        if self._process is None:
            return True
        if self._process.poll() is None:
            return False
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return True

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode if self._process is not None else None

    def start(self) -> None:
        self.ready_file.unlink(missing_ok=True)
        with self.log.open("ab") as log, forking():
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 (see forking)
            )
        self.starts += 1

    def signal(self, number: signal.Signals) -> None:
        """To the process itself; one that has ended is left alone."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, timeout_s: float = 60.0) -> int:
        assert self._process is not None
        code = self._process.wait(timeout_s)
        assert self.ended
        return code

    def stop(self) -> None:
        """In order if it can be, and in any case."""
        if self.ended:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.wait(30.0)
        except subprocess.TimeoutExpired:
            self.kill()


class PortTaken(Exception):
    """Between choosing a port and listening on it somebody else took it."""


class WholeFleet:
    """`api` and `workers`, made and not started. `url` stays the same when the api is started again."""

    def __init__(self, settings: Settings, folder: Path, workers: int, environment: Mapping[str, str]) -> None:
        """`environment` is that of all processes, on top of what leads to the servers."""
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        taken: list[int] = []
        for _ in range(workers + 1):
            taken.append(free_port(avoid=taken))
        self.port, *self.metrics_ports = taken
        self.url = f"http://127.0.0.1:{self.port}"
        shared = environment_of(settings, **environment)
        door = {"API_HOST": "127.0.0.1", "API_PORT": str(self.port), "API_KEYS": ""}
        self.api = FleetProcess("api", "api", shared | door, Links(settings), folder)
        self.workers = [
            FleetProcess(
                f"worker-{number}",
                "worker",
                shared | {"WORKER_NAME": f"worker-{number}", "WORKER_METRICS_PORT": str(port)},
                Links(settings),
                folder,
            )
            for number, port in enumerate(self.metrics_ports, start=1)
        ]

    @property
    def processes(self) -> list[FleetProcess]:
        return [self.api, *self.workers]

    def start(self, *processes: FleetProcess) -> None:
        """Those, or all of them; returns when each does its work."""
        chosen = processes or self.processes
        for process in chosen:
            process.start()
        for process in chosen:
            self.wait_ready(process)

    def wait_ready(self, process: FleetProcess) -> None:
        """Until the api answers, or the worker consumes."""

        def ready() -> bool:
            if process.ended:
                said = process.log.read_text("utf-8", "replace")[-3000:]
                raise (PortTaken if "address already in use" in said else AssertionError)(f"{process.name}: {said}")
            return self.answers() if process is self.api else process.ready_file.exists()

        eventually(ready, errors=(httpx.HTTPError,))

    def answers(self) -> bool:
        return httpx.get(f"{self.url}/livez", timeout=2.0, trust_env=False).is_success

    def samples(self, process: FleetProcess) -> list[Sample]:
        """What the process measures now. Raises httpx.HTTPError unless it lives and answers."""
        port = dict(zip(self.processes, [self.port, *self.metrics_ports], strict=True))[process]
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5.0, trust_env=False).text
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def counted(self, process: FleetProcess, name: str, **labels: str) -> int:
        """The sum of a counter over the samples that carry these labels."""
        found = (sample for sample in self.samples(process) if sample.name == name)
        return sum(int(sample.value) for sample in found if labels.items() <= sample.labels.items())

    def stop(self) -> None:
        for process in self.processes:
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        give_up = time.monotonic() + 30.0
        for process in self.processes:
            while not process.ended and time.monotonic() < give_up:
                time.sleep(0.02)
            if not process.ended:
                process.kill()
            process.links.close()


@contextmanager
def whole_fleet(
    settings: Settings, folder: Path, environment: Mapping[str, str], *, workers: int = 1, started: int | None = None
) -> Iterator[WholeFleet]:
    """Ready when the block begins, gone when it is left. `started`: how many of the workers, by default all."""
    fleet = WholeFleet(settings, folder, workers, environment)
    try:
        try:
            fleet.start(fleet.api, *fleet.workers[:started])
        except PortTaken:
            fleet.stop()
            fleet = WholeFleet(settings, folder, workers, environment)
            fleet.start(fleet.api, *fleet.workers[:started])
        yield fleet
    finally:
        fleet.stop()


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
