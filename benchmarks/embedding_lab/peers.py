"""Others that do the same, each in an environment of its own: sentence-transformers in process, infinity over HTTP."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from timed_process import TimedProcess, answers

from embedding_lab.clients import Target

_START_S = 300.0


def timed_sentence_transformers(python: Path, model: Path, texts: Path) -> TimedProcess:
    """Embeds all texts each time."""
    script = Path(__file__).with_name("timed_reference.py")
    # There lies whole_torchvision.
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(script.parents[1])}
    return TimedProcess([str(python), str(script), str(model), str(texts)], quiet, "sentence-transformers")


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
        while not answers(f"{target.url}/models"):
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"infinity did not start: try {' '.join(command)}")
            time.sleep(1)
        yield target, process.pid
    finally:
        process.terminate()
        process.wait(30)
