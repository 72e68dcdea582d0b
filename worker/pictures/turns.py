"""Lanes that work beside each other, and one that needs the place of all for a moment."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Thread-safe. Both blocks may wait for other lanes to end theirs; they are not for nesting."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self._alone = 0

    @contextmanager
    def beside(self) -> Iterator[None]:
        """At work as others are."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._working += 1
        with self._left():
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Once all others have ended what they were at, and before they begin anything else."""
        with self._changed:
            self._alone += 1
            self._changed.wait_for(lambda: not self._working)
            self._working += 1
        try:
            with self._left():
                yield
        finally:
            with self._changed:
                self._alone -= 1
                self._changed.notify_all()

    @contextmanager
    def _left(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()
