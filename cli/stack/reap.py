"""Ends what a killed supervisor left behind, and nothing else: a pid counts only with its start time.

On Linux the children end by themselves when their supervisor dies (PR_SET_PDEATHSIG); a start waits for that here.
Elsewhere this is what ends them.
"""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from cli.stack import identity
from cli.stack.private_file import write_private


class RecordedChild(BaseModel):
    """`stop_signal` is what asks this kind of process for an orderly end."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started: str
    stop_signal: int


_Children = TypeAdapter(dict[str, RecordedChild])


class PidFile:
    """`pids.json`: written after every start of a child, removed by an orderly stop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._children: dict[str, RecordedChild] = {}

    def record(self, name: str, pid: int, stop_signal: int) -> None:
        start = identity.started(pid)
        if start is None:
            return
        self._children[name] = RecordedChild(pid=pid, started=start, stop_signal=stop_signal)
        write_private(self._path, json.dumps({k: v.model_dump() for k, v in self._children.items()}, indent=1) + "\n")

    def remove(self) -> None:
        self._children.clear()
        self._path.unlink(missing_ok=True)


def reap(path: Path, *, grace_s: float = 10.0) -> list[str]:
    """Ends the processes recorded in the file that still run, killing them after `grace_s`; returns their names.

    Call it only with the data folder locked: a living supervisor's children are in the same file.
    """
    try:
        recorded = _Children.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return []
    left = {name: child for name, child in recorded.items() if identity.is_running(child.pid, child.started)}
    for child in left.values():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(child.pid, child.stop_signal)
    if not _all_ended(left, grace_s):
        for child in left.values():
            if identity.is_running(child.pid, child.started):
                # Each child leads a process group of its own.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
        _all_ended(left, 5.0)
    path.unlink(missing_ok=True)
    return sorted(left)


def _all_ended(children: dict[str, RecordedChild], limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while any(identity.is_running(child.pid, child.started) for child in children.values()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
