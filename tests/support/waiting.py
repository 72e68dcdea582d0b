"""Waiting for something that another process does: by looking, with a deadline that only a failure reaches."""

import time
from collections.abc import Callable


def eventually(
    holds: Callable[[], object], *, within_s: float = 120.0, errors: tuple[type[BaseException], ...] = ()
) -> None:
    """Returns once `holds()` is true. `errors` count as not yet. Raises AssertionError after `within_s`."""
    deadline = time.monotonic() + within_s
    last: object = None
    pause_s = 0.01
    while time.monotonic() < deadline:
        try:
            last = holds()
            if last:
                return
        except errors as error:
            last = error
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.2)
    raise AssertionError(f"not within {within_s:g} s; the last look gave {last!r}")
