"""Finds out what a run of a model takes, in a process of its own that may fail: `weigh` starts it, `main` is it.

Only asked where a guess would refuse a job. Seconds, once per model and process: the child loads the graph, runs it
a few times on zeros, and says by how much it grew.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fleet.errors import FleetError, ModelError
from worker.children import bare_environment, die_first, limit_growth, step_back_in_session
from worker.contract import Shapes, Tensor
from worker.engine.appetite import RUNS
from worker.engine.arena import share_arena
from worker.engine.session import Session, SessionSetup
from worker.memory.limit import held_bytes
from worker.stop import StopToken

#: Between two looks at what the child holds: it may grow by some ten MiB meanwhile.
_TICK_S = 0.005
#: How the child ends when its run does not fit into what it may take.
_OUT_OF_MEMORY = 3
#: Of the child besides its graph: interpreter, numpy, ONNX Runtime.
CHILD_BYTES = 128 * 1024**2


def weigh(
    graph: Path,
    setup: SessionSetup,
    inputs: tuple[Tensor, ...],
    shapes: Shapes,
    *,
    base_bytes: int,
    most_bytes: int,
    check: Callable[[], None],
) -> int | None:
    """Bytes that one run on inputs of these shapes takes; None when that is more than `most_bytes`.

    `base_bytes` is what the child may hold besides: itself and the loaded graph. `check` is called all the while, and
    ends it by raising. Raises ModelError when the model fails on such inputs.
    """
    dtypes = {tensor.name: tensor.dtype.str for tensor in inputs}
    request = {
        "graph": str(graph),
        "setup": asdict(setup) | {"providers": list(setup.providers)},
        "feeds": {name: [dtypes[name], *shape] for name, shape in shapes.items()},
        "most_bytes": most_bytes,
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=bare_environment(),
        start_new_session=True,
    )
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    try:
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
        while not select.select([process.stdout], [], [], _TICK_S)[0]:
            check()
            if held_bytes(process.pid) > base_bytes + most_bytes:
                return None
        answer = process.stdout.read()
        status = process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return _weighed(answer, status)


def _weighed(answer: bytes, status: int) -> int | None:
    if status in (_OUT_OF_MEMORY, -signal.SIGKILL):
        return None
    if status != 0:
        raise ModelError(
            f"the process that tried what a run of the model takes ended with status {status}", code="inference-failed"
        )
    found: dict[str, Any] = json.loads(answer)
    if "fault" in found:
        raise ModelError(found["fault"], code=found["code"])
    return int(found["bytes"])


def main() -> None:
    """One request on stdin, one answer on what was stdout: logs must not get into it."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    die_first()
    step_back_in_session()
    share_arena()
    try:
        answer: dict[str, Any] = {"bytes": _growth(json.load(sys.stdin))}
    except MemoryError:
        sys.exit(_OUT_OF_MEMORY)
    except FleetError as error:
        if error.code == "inference-out-of-memory":
            sys.exit(_OUT_OF_MEMORY)
        answer = {"fault": error.message, "code": error.code}
    answers.write(json.dumps(answer))
    answers.flush()


def _growth(request: dict[str, Any]) -> int:
    session = Session(Path(request["graph"]), SessionSetup(**request["setup"]))
    feeds = {name: np.zeros(shape, dtype) for name, (dtype, *shape) in request["feeds"].items()}
    # The worker looks at what is really held. This is for what grows faster than it looks.
    limit_growth(2 * request["most_bytes"])
    before, most = held_bytes(os.getpid()), 0
    for _ in range(RUNS):
        outputs = session.run(feeds, StopToken())
        most = max(most, held_bytes(os.getpid()))
        del outputs
    return most - before


if __name__ == "__main__":
    main()
