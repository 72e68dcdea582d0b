"""Boot step 3: keep leases; at the end, drain. Stopped after the consumer, so that nothing new comes in.

SIGTERM and SIGINT ask for the drain; a second one, or SIGQUIT, asks for it without the grace.
"""

import signal
import time
from types import FrameType
from typing import Any

from celery import bootsteps
from celery.worker import state

from fleet.logs import get_logger
from worker.boot.engine import EngineStep
from worker.leases import LeaseKeeper
from worker.stop import StopReason

log = get_logger(__name__)
#: What a run needs to notice that it is to stop, hand its lease back and clean up.
HAND_BACK_S = 10.0
#: What the steps after this one need.
_END_S = 5.0
_LOOK_S = 0.1


class IntakeStep(bootsteps.StartStopStep):
    requires = (EngineStep,)

    def start(self, worker: Any) -> None:
        self._wish = Wish()
        self._wish.from_signals()
        worker.app.process.leases.start()

    def stop(self, worker: Any) -> None:
        process = worker.app.process
        if process is None:
            return
        all_ended = drain(process.leases, self._wish, process.settings.worker_drain_s)
        if not all_ended and worker.app.watchdog is not None:
            # The pool would wait for its deaf thread for ever.
            worker.app.watchdog.drain(_END_S)


class Wish:
    """How urgently the end of the process is wished for."""

    def __init__(self) -> None:
        self._asked = False
        self.at_once = False

    def from_signals(self) -> None:
        """Takes the place of Celery's handlers, whose second signal kills what runs. Main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        # Only flags: whatever this interrupts may hold any lock.
        self.at_once = self.at_once or self._asked or number == signal.SIGQUIT
        self._asked = True
        state.should_stop = 0


def drain(leases: LeaseKeeper, wish: Wish, grace_s: float, hand_back_s: float = HAND_BACK_S) -> bool:
    """Lets runs finish within the grace, then stops them, then hands back the leases of those that are deaf.

    Returns whether all have ended.
    """
    leases.drain()
    if leases.running:
        log.info("draining", running=leases.running, grace_s=grace_s)
    began = stopped_at = time.monotonic()
    while not leases.wait_idle(_LOOK_S):
        now = time.monotonic()
        if not wish.at_once and now - began < grace_s:
            stopped_at = now
        elif now - stopped_at < hand_back_s:
            # Again and again: a claim that was under way may have been won meanwhile.
            leases.stop_all(StopReason.DRAINED)
        else:
            leases.hand_back_all(StopReason.DRAINED)
            break
    leases.close()
    return not leases.running
