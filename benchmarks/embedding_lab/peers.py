"""Others that do the same, each in an environment of its own: sentence-transformers in process, infinity over HTTP."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedding_lab.clients import Target

_START_S = 300.0


class SentenceTransformers:
    """A process that embeds all texts each time it is told to (`timed_reference.py`)."""

    def __init__(self, python: Path, model: Path, texts: Path) -> None:
        script = Path(__file__).with_name("timed_reference.py")
        self._process = subprocess.Popen(
            [str(python), str(script), str(model), str(texts)],
            env=os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = self._line()

    def once(self) -> tuple[float, float]:
        """Seconds, and seconds of processor, of all texts."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        wall_s, cpu_s = self._line().split()
        return float(wall_s), float(cpu_s)

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("sentence-transformers did not run: see its traceback above")
        return line.strip()


@contextmanager
def infinity(python: Path, model: Path, port: int) -> Iterator[tuple[Target, int]]:
    """A running server, and its process."""
    command = [str(python.with_name("infinity_emb")), "v2", "--model-id", str(model), "--engine", "torch"]
    command += ["--device", "cpu", "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "peer"]
    command += ["--no-bettertransformer"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    target = Target(f"http://127.0.0.1:{port}", "/embeddings", "peer")
    try:
        give_up = time.monotonic() + _START_S
        while not _answers(f"{target.url}/models"):
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"infinity did not start: try {' '.join(command)}")
            time.sleep(1)
        yield target, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
