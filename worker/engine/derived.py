"""What tasks make of a loaded model once, such as a tokenizer, and keep for as long as it is loaded."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from worker.contract import Model

T = TypeVar("T")


class Derived:
    """Of one loaded model; thread-safe."""

    def __init__(self) -> None:
        # What is made may be made of something else that is derived.
        self._lock = threading.RLock()
        self._made: dict[Callable[[Model], Any], Any] = {}

    def get(self, make: Callable[[Model], T], model: Model) -> T:
        """What `make` made, now or earlier. Who asks while it is being made waits; raises what `make` raises."""
        with self._lock:
            if make not in self._made:
                self._made[make] = make(model)
            return cast(T, self._made[make])
