"""Waiting for a job's end. The server holds each request; a server that is away for a while is waited for, too."""

import time
from collections.abc import Callable
from typing import TypeAlias

from fleet_client.errors import ConnectionFailed, FleetError, Timeout, Unavailable
from fleet_client.records import JobRecord
from fleet_client.retry import Retries

#: Asks for the job; the server may hold the answer that many seconds.
Ask: TypeAlias = Callable[[int], JobRecord]

#: Never two questions within this time, also when the server does not hold them, in seconds.
_PACE_S = 0.5
_HOLD_S = 20
#: `Prefer: wait` counts whole seconds; somebody who watches wants to hear from the job in between.
_HOLD_WATCHED_S = 1


def wait_for_end(
    ask: Ask,
    *,
    watch: Callable[[JobRecord], None] | None,
    timeout_s: float | None,
    silence_s: float,
    retries: Retries,
) -> JobRecord:
    """The job's record once it has ended, in whatever state.

    `watch` is called with every record on the way, the last included. Lost connections, time-outs and 502-504 are
    asked again: until `timeout_s`, or, without one, until nothing was heard for `silence_s`. Raises Timeout, or what
    broke the silence.
    """
    started = heard = time.monotonic()
    failures = 0
    while True:
        asked = time.monotonic()
        left = float("inf") if timeout_s is None else started + timeout_s - asked
        hold = int(min(_HOLD_S if watch is None else _HOLD_WATCHED_S, max(left, 0)))
        try:
            record = ask(hold)
        except (ConnectionFailed, Timeout, Unavailable) as error:
            given_up = time.monotonic() - heard > silence_s if timeout_s is None else left <= 0
            if given_up:
                raise
            pause_s = _pause_s(retries, failures, error)
            failures += 1
        else:
            heard, failures = time.monotonic(), 0
            if watch is not None:
                watch(record)
            if record.ended:
                return record
            if left <= 0:
                raise Timeout(
                    f"job {record.id} is still {record.state} after {timeout_s:g} s; it goes on, wait for it again"
                )
            pause_s = asked + _PACE_S - time.monotonic()
        if timeout_s is not None:
            pause_s = min(pause_s, started + timeout_s - time.monotonic())
        time.sleep(max(0.0, pause_s))


def _pause_s(retries: Retries, failures: int, error: FleetError) -> float:
    asked_for = error.retry_after
    return retries.pause_s(failures, None if asked_for is None else min(asked_for, retries.patience_s))
