"""Watches one worker process: starts it again when it crashes or hangs, and has each of its deaths told to the record.

    exit 0 (drained), 2 (cannot keep its promise), or any end after a stop was asked for ──▶ the watcher ends too
    every other exit, every signal                                                       ──▶ started again after a while
    silent for 45 s: it is frozen                                                        ──▶ killed and started again

SIGTERM, SIGINT and SIGHUP are handed on as SIGTERM: once drains, twice drains at once. SIGQUIT is handed on as it is.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from cli.stack.burials import Burials
from cli.stack.child import Child
from fleet.errors import DependencyError
from worker.exits import ExitCode

Tell = Callable[..., None]
_ROUND_S = 0.1
_CHECK_EVERY_S = 5.0
_BURIAL_S = 5.0
_FORWARDED = {
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGINT: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
    signal.SIGQUIT: signal.SIGQUIT,
}


class Watcher:
    """`tell(event, **facts)` writes one line of the log. Run it in the main thread."""

    def __init__(self, child: Child, burials: Burials, tell: Tell, *, check_every_s: float = _CHECK_EVERY_S) -> None:
        self._child = child
        self._burials = burials
        self._tell = tell
        self._check_every_s = check_every_s
        self._asked = False
        self._to_forward: list[signal.Signals] = []
        self._start_at: float | None = 0.0
        self._check_at = 0.0

    def run(self) -> int:
        """Returns the exit code for the watcher's own process."""
        with self._signals_noted():
            while (code := self._round()) is None:
                time.sleep(_ROUND_S)
        self._burials.settle(_BURIAL_S)
        return code

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        def note(number: int, _frame: FrameType | None) -> None:
            self._asked = True
            self._to_forward.append(_FORWARDED[signal.Signals(number)])

        # What was ignored stays so: `nohup` means it.
        wanted = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _round(self) -> int | None:
        """One look; the exit code once it is over."""
        now = time.monotonic()
        if self._start_at is not None:
            if self._asked:
                return ExitCode.DRAINED
            if now >= self._start_at:
                self._start()
            return None
        while self._to_forward:
            self._child.send(self._to_forward.pop(0))
        if self._child.ended():
            return self._after_the_end()
        if now >= self._check_at:
            self._check_at = now + self._check_every_s
            self._check()
        return None

    def _start(self) -> None:
        try:
            pid = self._child.start()
        except DependencyError as error:
            self._tell("worker cannot be started", reason=error.message)
            self._start_later()
        else:
            self._start_at = None
            self._tell("worker started", pid=pid)

    def _after_the_end(self) -> int | None:
        code = self._child.last_exit or 0
        if code in (ExitCode.DRAINED, ExitCode.BROKEN_PROMISE):
            return code
        if self._asked:
            # Before it could take signals in hand it simply ends by them.
            return ExitCode.DRAINED if code == -signal.SIGTERM else code if code > 0 else 128 - code
        self._start_later()
        return None

    def _start_later(self) -> None:
        wait_s = self._child.backoff.after_run_of(self._child.age_s)
        self._start_at = time.monotonic() + wait_s
        self._tell("worker is started again", in_s=wait_s)

    def _check(self) -> None:
        self._child.probe()
        if self._child.hangs():
            reason = self._child.fault or "it hangs"
            self._tell("worker hangs, killing it", reason=reason)
            self._child.kill(reason)
