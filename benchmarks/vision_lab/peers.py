"""Others that do the same, each in an environment of its own: the libraries in process, LitServe over HTTP."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from timed_process import TimedProcess, answers

from fleet.cpus import usable_cpus
from vision_lab.clients import Target, answered
from vision_lab.in_process import InProcess
from vision_lab.networks import Network

_START_S = 120.0
_QUIET = {"HF_HUB_OFFLINE": "1", "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}


def timed_library(python: Path, network: Network, graph: Path) -> TimedProcess:
    """Answers the picture each time."""
    script = Path(__file__).with_name("timed_library.py")
    run = [str(python), str(script), network.library, str(network.picture), str(graph)]
    # There lies whole_torchvision.
    return TimedProcess(run, _QUIET | {"PYTHONPATH": str(script.parents[1])}, network.library)


def has_tokenizers(python: Path) -> bool:
    return subprocess.run([python, "-c", "import tokenizers"], capture_output=True, check=False).returncode == 0


def refuse_other_words(target: Target, ours: InProcess) -> None:
    """A server that answers a question otherwise than ours does other work: nothing is measured of it, nor after it."""
    theirs, mine = answered(target)["answer"], ours.once()[0]["answer"]
    if theirs != mine:
        raise SystemExit(f"LitServe answers {theirs!r} and ours in process {mine!r}: they do not do the same")
    print(f"  LitServe answers {theirs!r}, as ours in process does", flush=True)


@contextmanager
def lit_server(python: Path, network: Network, port: int, threads: int) -> Iterator[str]:
    """The URL of a running server, with a worker for each core, and so many threads for the runs of each."""
    script = Path(__file__).with_name("litserve_server.py")
    version = network.folder / "1"
    command = [str(python), str(script), network.name, str(version), str(port), str(usable_cpus()), str(threads)]
    log = version / "litserve.log"
    # There lies vision_lab.
    where = os.environ | {"PYTHONPATH": str(script.parents[1])}
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=where, stdout=file, stderr=file, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        give_up = time.monotonic() + _START_S
        while not answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"LitServe did not start: {log.read_text('utf-8', 'replace')[-1000:]}")
            time.sleep(0.5)
        yield url
    finally:
        # Its workers are processes of its own session.
        os.killpg(process.pid, 15)
        process.wait(30)
