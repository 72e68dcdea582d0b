"""Patience with a dependency that is away: minutes of work are not thrown away for seconds of outage."""

import time
from collections.abc import Callable
from typing import TypeVar

from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.settings import STORE_PATIENCE_S
from worker.stop import StopToken

log = get_logger(__name__)
T = TypeVar("T")


def patiently(call: Callable[[], T], stop: StopToken | None = None, within_s: float = STORE_PATIENCE_S) -> T:
    """Repeats a call while a dependency is away. Raises its DependencyError in the end, and RunStopped."""
    give_up_at, pause = time.monotonic() + within_s, 0.5
    while True:
        try:
            return call()
        except DependencyError as error:
            final = not error.retryable or error.code == "database-closed"
            if final or time.monotonic() + pause > give_up_at:
                raise
            log.warning("waiting for a dependency", code=error.code, pause_s=pause)
        if stop is None:
            time.sleep(pause)
        else:
            stop.wait(pause)
            stop.check()
        pause = min(pause * 2, 10.0)
