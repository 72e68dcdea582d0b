"""Watches the worker processes of `fleet work`; the rules for each of them are in `cli/watch/watched.py`.

    all are over                                  ──▶ the watcher ends with the worst of their codes
    those that are left cannot keep their promise ──▶ the watcher ends with 2: nothing here can run

SIGTERM, SIGINT and SIGHUP are handed on as SIGTERM: once drains, twice drains at once. SIGQUIT is handed on as it is.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from cli.stack.burials import Burials
from cli.watch.shared_pulse import SharedPulse
from cli.watch.watched import Tell, WatchedProcess
from worker.exits import ExitCode

_ROUND_S = 0.1
_BURIAL_S = 5.0
_FORWARDED = {
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGINT: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
    signal.SIGQUIT: signal.SIGQUIT,
}


class Watcher:
    """`tell(event, **facts)` writes one line of the log. Run it in the main thread."""

    def __init__(
        self, processes: Sequence[WatchedProcess], burials: Burials, tell: Tell, pulse: SharedPulse | None = None
    ) -> None:
        self._processes = processes
        self._burials = burials
        self._tell = tell
        self._pulse = pulse or SharedPulse(None)
        self._asked = False
        self._to_forward: list[signal.Signals] = []

    def run(self) -> int:
        """Returns the exit code for the watcher's own process."""
        with self._signals_noted():
            while (code := self._round()) is None:
                time.sleep(_ROUND_S)
        self._burials.settle(_BURIAL_S)
        self._pulse.end()
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
        """One look at each; the exit code once all is over."""
        while self._to_forward:
            number = self._to_forward.pop(0)
            for process in self._processes:
                process.send(number)
        for process in self._processes:
            was_broken = process.broken
            process.look(stopping=self._asked)
            if process.broken and not was_broken:
                self._tell_of_broken()
        left = [process for process in self._processes if process.exit_code is None]
        if not left:
            return max(process.exit_code or 0 for process in self._processes)
        if all(process.broken for process in left):
            return ExitCode.BROKEN_PROMISE
        able = [process for process in left if not process.broken]
        self._pulse.show(takes_jobs=all(process.takes_jobs for process in able), draining=self._asked)
        return None

    def _tell_of_broken(self) -> None:
        broken = sum(process.broken for process in self._processes)
        self._tell("worker cannot keep its promise; its log says why", broken=broken, of=len(self._processes))
