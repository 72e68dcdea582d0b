"""Ending a run on purpose: one token per run, set from another thread, obeyed by ONNX Runtime and our own loops."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from fleet.errors import RunStopped


class StopReason(StrEnum):
    CANCELLED = "cancelled"
    DEADLINE = "deadline-exceeded"
    EXECUTION_TIMEOUT = "execution-timeout"
    DRAINED = "drained"
    LEASE_LOST = "lease-lost"


_SENTENCES = {
    StopReason.CANCELLED: "the job was cancelled",
    StopReason.DEADLINE: "the deadline passed while the job ran",
    StopReason.EXECUTION_TIMEOUT: "the run took longer than its execution timeout",
    StopReason.DRAINED: "the worker is shutting down",
    StopReason.LEASE_LOST: "another worker has taken the job over",
}


class StopToken:
    """Set once, with the first reason; thread-safe. Runs of a session attach their RunOptions to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._runs: set[Any] = set()
        self._calls: list[Callable[[], None]] = []
        self.reason: StopReason | None = None
        #: Moment of the monotonic clock at which it was set.
        self.set_at: float | None = None

    def set(self, reason: StopReason) -> None:
        with self._lock:
            if self.reason is None:
                self.reason, self.set_at = reason, time.monotonic()
            self._event.set()
            for options in self._runs:
                options.terminate = True
            for call in self._calls:
                call()

    def check(self) -> None:
        """Raises RunStopped, with the reason as its code, once the token is set."""
        if self.reason is not None:
            raise RunStopped(_SENTENCES[self.reason], code=self.reason.value)

    def wait(self, timeout_s: float) -> bool:
        """Sleeps; True as soon as the token is set."""
        return self._event.wait(timeout_s)

    @contextmanager
    def attached(self, options: Any) -> Iterator[None]:
        """While the block runs, setting the token ends the ONNX Runtime call that uses these RunOptions."""
        with self._lock:
            self.check()
            self._runs.add(options)
        try:
            yield
        finally:
            with self._lock:
                self._runs.discard(options)

    @contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """While the block runs, setting the token calls this, in the thread that sets it; at once if it is set already.

        It must be quick, and must not come back to this token's methods that wait or attach.
        """
        with self._lock:
            self._calls.append(call)
            already = self.reason is not None
        try:
            if already:
                call()
            yield
        finally:
            with self._lock:
                self._calls.remove(call)
