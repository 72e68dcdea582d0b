"""The burials under way: see `cli/stack/burial.py`. Best effort, and never in the way of a restart."""

import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from worker.exits import ExitCode

#: While the record is away, a worker that keeps ending must not fill the machine.
_AT_ONCE = 8


class Burials:
    """`environment` is the worker's: it leads to the record. `quiet` keeps what they say out of a terminal."""

    def __init__(self, environment: Mapping[str, str], workdir: Path, *, quiet: bool) -> None:
        self._environment = environment
        self._workdir = workdir
        self._output = subprocess.DEVNULL if quiet else None
        self._under_way: list[subprocess.Popen[bytes]] = []

    def bury(self, worker: str, pid: int, code: int, how: str) -> None:
        """Returns at once. A worker that drained, or that never began, held no lease."""
        self._forget_ended()
        if code in (ExitCode.DRAINED, ExitCode.BROKEN_PROMISE) or len(self._under_way) >= _AT_ONCE:
            return
        with suppress(OSError):
            burial = subprocess.Popen(
                [sys.executable, "-P", "-m", "cli.stack.burial", worker, str(pid), how],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                cwd=self._workdir,
                env=dict(self._environment),
                start_new_session=True,
            )
            self._under_way.append(burial)

    def settle(self, patience_s: float) -> None:
        """Waits for those under way, but no longer than that, and ends the others."""
        give_up_at = time.monotonic() + patience_s
        for burial in self._under_way:
            try:
                burial.wait(max(0.0, give_up_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                burial.kill()
                burial.wait()
        self._under_way.clear()

    def _forget_ended(self) -> None:
        self._under_way = [burial for burial in self._under_way if burial.poll() is None]
