"""Others that do the same, each in an environment of its own: the libraries in process, LitServe over HTTP."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.cpus import usable_cpus
from vision_lab.networks import Network

_START_S = 120.0
_QUIET = {"HF_HUB_OFFLINE": "1", "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}


class Library:
    """A process that answers the picture each time it is told to (`timed_library.py`)."""

    def __init__(self, python: Path, network: Network, graph: Path) -> None:
        script = Path(__file__).with_name("timed_library.py")
        self._process = subprocess.Popen(
            [str(python), str(script), network.library, str(network.picture), str(graph)],
            env=os.environ | _QUIET,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = self._line()
        # Some say more than they were asked for before they begin.
        while not self.version.startswith(network.library):
            self.version = self._line()

    def once(self) -> float:
        """Seconds of one picture, from its file to the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._line().split()[0])

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the library did not run: see its traceback above")
        return line.strip()


@contextmanager
def lit_server(python: Path, network: Network, graph: Path, port: int) -> Iterator[str]:
    """The URL of a running server, with a worker for each core."""
    script = Path(__file__).with_name("litserve_server.py")
    command = [str(python), str(script), network.name, str(graph), str(port), str(usable_cpus())]
    log = graph.with_suffix(".litserve.log")
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        give_up = time.monotonic() + _START_S
        while not _answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"LitServe did not start: {log.read_text('utf-8', 'replace')[-1000:]}")
            time.sleep(0.5)
        yield url
    finally:
        # Its workers are processes of its own session.
        os.killpg(process.pid, 15)
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
