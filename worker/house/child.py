"""The process in which what strangers wrote is parsed and tried: `Child` runs a step in it, `main` is it.

It has no passwords, less priority than a job, bounded memory, and whatever becomes of it, the worker stays.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet import errors
from fleet.errors import DependencyError, FleetError, ModelError
from worker.children import bare_environment, device_environment, die_first, limit_growth, step_back_in_session

_TICK_S = 0.1
_ANSWER_BYTES = 16 * 1024**2
_OUT_OF_MEMORY = 3


def run_in_child(
    step: str, request: dict[str, Any], *, limit_s: float, most_bytes: int, check: Callable[[], object]
) -> dict[str, Any]:
    """The step's answer. `check` is called all the while, and ends the child by raising.

    Raises what the step raised, ModelError `model-crashes`, `check-timed-out` or `not-enough-memory`, and
    DependencyError `check-killed` when it was killed from outside.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=bare_environment(**device_environment()),
        start_new_session=True,
    )
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    try:
        process.stdin.write(json.dumps({"step": step, "request": request, "most_bytes": most_bytes}).encode())
        process.stdin.close()
        until = time.monotonic() + limit_s
        answer = b""
        while True:
            check()
            if time.monotonic() > until:
                raise ModelError(f"trying the model took longer than {limit_s:.0f} s", code="check-timed-out")
            if select.select([process.stdout], [], [], _TICK_S)[0]:
                piece = os.read(process.stdout.fileno(), 65536)
                answer += piece
                if not piece or len(answer) > _ANSWER_BYTES:
                    break
        status = process.wait(10)
    except (BrokenPipeError, subprocess.TimeoutExpired) as error:
        raise ModelError("the process that tried the model broke off", code="model-crashes") from error
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return _told(answer, status, most_bytes)


def _told(answer: bytes, status: int, most_bytes: int) -> dict[str, Any]:
    if status == -signal.SIGKILL:
        raise DependencyError(
            "the process that tried the model was killed, most likely because the machine's memory ran out",
            code="check-killed",
        )
    if status == _OUT_OF_MEMORY:
        raise ModelError(
            f"the model does not fit into the {most_bytes:,} bytes that this worker may use for it",
            code="not-enough-memory",
        )
    try:
        told: dict[str, Any] = json.loads(answer)
    except ValueError as error:
        raise ModelError(
            f"the model ended the process that tried it (status {status}): ONNX Runtime crashes with it",
            code="model-crashes",
            status=status,
        ) from error
    if "fault" in told:
        fault = told["fault"]
        kind = getattr(errors, fault["kind"], FleetError)
        raise kind(fault["message"], code=fault["code"], **fault["facts"])
    found: dict[str, Any] = told["answer"]
    return found


def main() -> None:
    """One request on stdin, one answer on what was stdout: logs must not get into it."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    die_first()
    step_back_in_session()
    asked = json.load(sys.stdin)
    try:
        answer: dict[str, Any] = {"answer": _step(asked["step"], asked["request"], asked["most_bytes"])}
    except MemoryError:
        sys.exit(_OUT_OF_MEMORY)
    except OSError as error:
        message = f"the worker's disk failed: {error.strerror}"
        fault = {"kind": "DependencyError", "message": message, "code": "worker-disk", "facts": {}}
        answer = {"fault": fault}
    except FleetError as error:
        if error.code == "inference-out-of-memory":
            sys.exit(_OUT_OF_MEMORY)
        facts = error.as_dict().get("facts", {})
        answer = {"fault": {"kind": type(error).__name__, "message": error.message, "code": error.code, "facts": facts}}
    answers.write(json.dumps(answer))
    answers.flush()


def _step(step: str, request: dict[str, Any], most_bytes: int) -> dict[str, Any]:
    match step:
        case "unpack":
            from worker.house.unpack import unpack, unpack_members

            limit_growth(most_bytes)
            path, folder, members = Path(request["path"]), Path(request["folder"]), request["members"]
            if members is None:
                return {"archive": unpack(path, folder, request["max_bytes"])}
            unpack_members(path, members, folder, request["max_bytes"])
            return {"archive": True}
        case "references":
            from worker.house.scan import references

            limit_growth(most_bytes)
            return {"files": references(Path(request["graph"]))}
        case "arrange":
            from worker.house.layout import Wish, lay_out
            from worker.house.scan import scan_folder
            from worker.house.trial import read_back

            limit_growth(most_bytes)
            folder, wish = Path(request["folder"]), request["wish"]
            labels = {int(number): label for number, label in (wish.pop("labels", None) or {}).items()}
            told = lay_out(Path(request["came"]), folder, Wish(**wish, labels=labels))
            scanned = scan_folder(folder, request["max_bytes"])
            return {"layout": told, **scanned, **read_back(folder)}
        case "try":
            from worker.house.trial import tried

            return tried(Path(request["folder"]), request["setup"], most_bytes)
    raise ValueError(step)


if __name__ == "__main__":
    main()
