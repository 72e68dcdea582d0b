"""Who may run in this process: many at once, or one alone.

A job that has lost workers and is on its last attempt may be what killed them. It runs with nobody beside it, so
that it takes nobody down with it, and nobody takes it down.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: How often somebody who waits asks whether it is still worth it.
_LOOK_S = 0.2


class Permits:
    """Thread-safe. Whoever wants to be alone goes before newcomers. Ask before the claim: no lease waits here."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._alone = False
        self._wanting_alone = 0
        self._waiting = 0

    @property
    def inside(self) -> int:
        """Threads that run or wait here."""
        with self._changed:
            return self._running + self._waiting

    @contextmanager
    def together(self, given_up: Callable[[], bool]) -> Iterator[bool]:
        """With others; False when `given_up` came true first."""
        with self._changed:
            granted = self._wait(lambda: not self._alone and not self._wanting_alone, given_up)
            self._running += granted
        try:
            yield granted
        finally:
            with self._changed:
                self._running -= granted
                self._changed.notify_all()

    @contextmanager
    def alone(self, given_up: Callable[[], bool]) -> Iterator[bool]:
        """With nobody else; False when `given_up` came true first. From within `together` it would wait for ever."""
        with self._changed:
            self._wanting_alone += 1
            granted = self._wait(lambda: not self._running, given_up)
            self._wanting_alone -= 1
            self._running += granted
            self._alone = self._alone or granted
            # Who gave up may have been all that the others waited for.
            self._changed.notify_all()
        try:
            yield granted
        finally:
            with self._changed:
                self._running -= granted
                self._alone = self._alone and not granted
                self._changed.notify_all()

    def _wait(self, free: Callable[[], bool], given_up: Callable[[], bool]) -> bool:
        self._waiting += 1
        try:
            while not free():
                # The question may go to the record: nobody else shall wait for the answer.
                self._changed.release()
                try:
                    over = given_up()
                finally:
                    self._changed.acquire()
                if over:
                    return False
                if not free():
                    self._changed.wait(_LOOK_S)
            return True
        finally:
            self._waiting -= 1
