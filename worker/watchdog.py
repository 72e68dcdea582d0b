"""The watchdog: a thread that ends the process when it stands still in a way that only a new process can cure.

    the event loop does not turn       and Redis answers all the while       ──▶ 71 (else it is reconnecting)
    the lease keeper does not look     and PostgreSQL answers all the while  ──▶ 71
    the consumer takes no message      with free slots and one that waits    ──▶ 72
    the drain does not come to an end                                        ──▶ 70

It also beats the pulse by which others see that the whole process is not frozen. Code that never lets go of Python's
lock stops this thread, too; a timer of faulthandler's, which needs no lock, ends the process then, with 1.
"""

import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fleet.errors import DependencyError
from fleet.logs import get_logger
from worker.exits import MEANINGS, ExitCode, end_process
from worker.pulse import BEAT_S, Pulse

log = get_logger(__name__)


@dataclass(frozen=True)
class Limits:
    """Seconds. `drain_s` is the longest that an orderly end may take, with the hand-back of what still runs."""

    stuck_s: float
    drain_s: float

    @property
    def deaf_s(self) -> float:
        """A consumer with free slots that leaves the same message lying for so long does not consume."""
        return self.stuck_s / 2

    @property
    def look_s(self) -> float:
        """Between two looks. What has been still for two looks may be standing still."""
        return min(BEAT_S, self.stuck_s / 4)


@dataclass(frozen=True)
class Watched:
    """What the watchdog asks, from its own thread. Those that reach out raise DependencyError."""

    #: The queues that this process consumes.
    queues: Callable[[], Sequence[str]]
    #: queue -> its next message, without the empty ones; reaches out to Redis.
    next_messages: Callable[[Sequence[str]], Mapping[str, bytes]]
    #: Threads that are at work on a message, of `slots`.
    busy: Callable[[], int]
    slots: int
    #: Seconds since the lease keeper looked after its runs, 0 while there are none.
    leases_silent_s: Callable[[], float]
    #: Reaches out to PostgreSQL, by a connection that nobody else uses.
    ask_record: Callable[[], object]


class Watchdog:
    """The event loop calls `turned`, whoever gets a message `received`."""

    def __init__(
        self,
        watched: Watched,
        limits: Limits,
        pulse: Pulse,
        *,
        end: Callable[[ExitCode], object] = end_process,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = watched
        self._limits = limits
        self._pulse = pulse
        self._end = end
        self._clock = clock
        self._turned_at = self._looked_at = self._clock()
        self._received = self._received_before = 0
        self._end_by: float | None = None
        #: Since when each has stood still without an excuse.
        self._loop_still_since: float | None = None
        self._keeper_still_since: float | None = None
        #: queue -> (its next message, since when it has been that)
        self._waiting: dict[str, tuple[bytes, float]] = {}
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._turned_at = self._looked_at = self._clock()
        self._thread.start()

    def turned(self) -> None:
        self._turned_at = self._clock()

    def received(self) -> None:
        self._received += 1

    def drain(self, within_s: float | None = None) -> None:
        """The loop stops on purpose; from here on only the end of the process is waited for, by default `drain_s`."""
        self._end_by = self._clock() + (self._limits.drain_s if within_s is None else within_s)

    def _watch(self) -> None:
        while True:
            faulthandler.dump_traceback_later(2 * self._limits.stuck_s, exit=True, file=sys.__stderr__ or 2)
            self._pulse.beat()
            try:
                self.look()
            except Exception:
                # Nobody watches the watchdog: it outlives whatever comes.
                log.exception("watchdog")
            time.sleep(self._limits.look_s)

    def look(self) -> None:
        """One look at everything."""
        now = self._clock()
        if now - self._looked_at > 4 * self._limits.look_s:
            # The whole process was frozen, or the machine asleep: nothing can have moved.
            self._loop_still_since = self._keeper_still_since = None
            self._waiting.clear()
        self._looked_at = now
        if self._end_by is not None:
            if now > self._end_by:
                self._end_as(ExitCode.RUN_STUCK, "the drain does not end")
            return
        self._look_at_keeper(now)
        if now - self._turned_at > 2 * self._limits.look_s:
            self._waiting.clear()
            self._look_at_loop(now)
        else:
            self._loop_still_since = None
            self._look_at_consumer(now)

    def _look_at_loop(self, now: float) -> None:
        try:
            self._watched.next_messages(self._watched.queues())
        except DependencyError:
            self._loop_still_since = None
            return
        self._loop_still_since = self._loop_still_since or now
        if now - self._loop_still_since > self._limits.stuck_s:
            self._end_as(ExitCode.HUNG, "the event loop does not turn, and Redis answers")

    def _look_at_keeper(self, now: float) -> None:
        if self._watched.leases_silent_s() <= 2 * self._limits.look_s:
            self._keeper_still_since = None
            return
        try:
            self._watched.ask_record()
        except DependencyError:
            self._keeper_still_since = None
            return
        self._keeper_still_since = self._keeper_still_since or now
        if now - self._keeper_still_since > self._limits.stuck_s:
            self._end_as(ExitCode.HUNG, "the lease keeper hangs, and PostgreSQL answers")

    def _look_at_consumer(self, now: float) -> None:
        received, self._received_before = self._received != self._received_before, self._received
        if received or self._watched.busy() >= self._watched.slots:
            self._waiting.clear()
            return
        try:
            messages = self._watched.next_messages(self._watched.queues())
        except DependencyError:
            self._waiting.clear()
            return
        before = self._waiting
        self._waiting = {
            queue: before[queue] if queue in before and before[queue][0] == message else (message, now)
            for queue, message in messages.items()
        }
        left_lying = [queue for queue, (_, since) in self._waiting.items() if now - since > self._limits.deaf_s]
        if left_lying:
            self._end_as(ExitCode.NOT_CONSUMING, f"slots are free, and messages lie in {', '.join(left_lying)}")

    def _end_as(self, code: ExitCode, reason: str) -> None:
        log.critical("ending the process", exit_code=int(code), meaning=MEANINGS[code], reason=reason)
        self._end(code)
