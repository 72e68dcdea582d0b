"""One worker process under the watcher: when it is started again, and when it is not.

waiting ──▶ running ── exit 0 (drained), or any end after a stop was asked for ──▶ over
   ▲           ├────── exit 2 (cannot keep its promise) ──▶ broken ──(five minutes)──▶ running
   └───────────┴────── every other exit, every signal; frozen for 45 s: killed
"""

import signal
import time
from collections.abc import Callable

from cli.stack.child import Child, ChildState
from fleet.errors import DependencyError
from worker.exits import ExitCode

Tell = Callable[..., None]
_CHECK_EVERY_S = 5.0
_CHECK_STARTING_EVERY_S = 0.5
#: A GPU may be reset, or its driver repaired, while the others work on.
_BROKEN_S = 300.0


class WatchedProcess:
    """`tell(event, **facts)` writes one line of the log. Use it in the main thread."""

    def __init__(
        self, child: Child, tell: Tell, *, check_every_s: float = _CHECK_EVERY_S, broken_s: float = _BROKEN_S
    ) -> None:
        self._child = child
        self._tell = tell
        self._check_every_s = check_every_s
        self._broken_s = broken_s
        self._start_at: float | None = 0.0
        self._check_at = 0.0
        #: Whether it could not keep its promise; it may be tried again.
        self.broken = False
        #: Set once it is over for good.
        self.exit_code: int | None = None

    @property
    def takes_jobs(self) -> bool:
        return self._start_at is None and self._child.state is ChildState.HEALTHY

    def send(self, number: signal.Signals) -> None:
        if self._start_at is None and self.exit_code is None:
            self._child.send(number)

    def look(self, *, stopping: bool) -> None:
        """Call it a few times a second; `stopping`: a stop was asked for, and nothing is to be started again."""
        now = time.monotonic()
        if self.exit_code is not None:
            return
        if self._start_at is not None:
            if stopping:
                self.exit_code = ExitCode.DRAINED
            elif now >= self._start_at:
                self._start()
        elif self._child.ended():
            self._after_the_end(stopping=stopping)
        elif now >= self._check_at:
            self._check()
            starting = self._child.state is ChildState.STARTING
            wait_s = min(_CHECK_STARTING_EVERY_S, self._check_every_s) if starting else self._check_every_s
            self._check_at = now + wait_s

    def _start(self) -> None:
        self.broken = False
        try:
            pid = self._child.start()
        except DependencyError as error:
            self._told("worker cannot be started", reason=error.message)
            self._start_later()
        else:
            self._start_at = None
            self._check_at = 0.0
            self._told("worker started", pid=pid)

    def _after_the_end(self, *, stopping: bool) -> None:
        code = self._child.last_exit or 0
        if code == ExitCode.DRAINED:
            self.exit_code = code
        elif stopping:
            # Before it could take signals in hand it simply ends by them.
            self.exit_code = ExitCode.DRAINED if code == -signal.SIGTERM else code if code > 0 else 128 - code
        elif code == ExitCode.BROKEN_PROMISE:
            self.broken = True
            self._start_at = time.monotonic() + self._broken_s
        else:
            self._start_later()

    def _start_later(self) -> None:
        wait_s = self._child.backoff.after_run_of(self._child.age_s)
        self._start_at = time.monotonic() + wait_s
        self._told("worker is started again", in_s=wait_s)

    def _check(self) -> None:
        self._child.probe()
        if self._child.hangs():
            reason = self._child.fault or "it hangs"
            self._told("worker hangs, killing it", reason=reason)
            self._child.kill(reason)

    def _told(self, event: str, **facts: object) -> None:
        self._tell(event, worker=self._child.name, **facts)
