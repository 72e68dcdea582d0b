"""The wish to stop, from a signal or from code; long steps look at it between short ones."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fleet.errors import RunStopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """The first request asks for an orderly stop; a second one says that it takes too long."""

    def __init__(self) -> None:
        self._requests = 0

    @property
    def requested(self) -> bool:
        return self._requests > 0

    @property
    def impatient(self) -> bool:
        return self._requests > 1

    def request(self) -> None:
        self._requests += 1

    def check(self) -> None:
        """Raises RunStopped `interrupted` once a stop was asked for."""
        if self.requested:
            raise RunStopped("stopped while starting, as asked", code="interrupted")

    @contextmanager
    def from_signals(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM and a closed terminal count as requests inside the block. Main thread only."""

        def note(_number: int, _frame: FrameType | None) -> None:
            self.request()

        # What was ignored stays so: `nohup` means it.
        wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
