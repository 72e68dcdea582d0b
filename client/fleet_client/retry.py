"""When to try again, and how long to wait before it."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from fleet_client.errors import FleetError

T = TypeVar("T")


@dataclass(frozen=True)
class Retries:
    """How often, and how patiently, a request is tried again.

    Waits grow from `first_s` by doubling up to `longest_s`, each with jitter, so that many clients do not come back
    together. A server's `Retry-After` is obeyed up to `patience_s`; beyond that the error is raised at once, and
    carries it as `retry_after`.
    """

    times: int = 5
    first_s: float = 0.25
    longest_s: float = 8.0
    patience_s: float = 60.0

    def pause_s(self, failures: int, retry_after_s: float | None = None) -> float:
        """Seconds to wait after the `failures`-th failure (from 0) in a row."""
        ceiling = min(self.longest_s, self.first_s * 2.0 ** min(failures, 30))
        return (retry_after_s or 0.0) + random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, not a secret

    def run(self, call: Callable[[], T]) -> T:
        """The answer of `call`, after as many tries as it takes and as are allowed."""
        failures = 0
        while True:
            try:
                return call()
            except FleetError as error:
                too_long = (error.retry_after or 0.0) > self.patience_s
                if not error.retryable or failures >= self.times or too_long:
                    raise
                pause_s = self.pause_s(failures, error.retry_after)
            failures += 1
            time.sleep(pause_s)


#: For callers that loop by themselves.
ONCE = Retries(times=0)


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from a `Retry-After` header, which holds either seconds or an HTTP date; None when it says nothing."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
