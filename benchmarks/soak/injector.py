"""Breaks things as planned, mends them when their time is over, and starts again what died, as a supervisor would.

All of it happens in the main thread, a step at a time: processes end with the thread that started them.
"""

import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from soak.actions import Actions
from soak.ledger import Clock
from soak.plan import FaultKind, PlannedFault
from soak.submitters import Trap
from soak.timetable import Timetable
from tests.support.faults import Breakable
from tests.support.whole_fleet import FleetProcess, WholeFleet

_START_AGAIN_S = 1.0


@dataclass(frozen=True)
class Hit:
    """A fault as it happened; `workers` are those whose running jobs it may have hit. `at` is a Unix time."""

    number: int
    kind: FaultKind
    at: float
    lasts_s: float
    workers: tuple[str, ...]
    note: str = ""


class Injector:
    """`tick` often; `heal` at the end."""

    def __init__(
        self, faults: Sequence[PlannedFault], fleet: WholeFleet, servers: Breakable, clock: Clock, trap: Trap, seed: int
    ) -> None:
        self._fleet = fleet
        self._servers = servers
        self._clock = clock
        self._trap = trap
        self._times = Timetable(clock)
        dice = random.Random(f"injector {seed}")
        self._actions = Actions(fleet, servers, trap, self._times, dice, self._hit)
        self._start_at: dict[str, float] = {}
        self.hits: list[Hit] = []
        self.left_out = 0
        for fault in faults:
            self._times.at(fault.at_s, partial(self._inject, fault))

    def tick(self) -> None:
        self._times.run_due()
        for process in self._fleet.processes:
            self._supervise(process)

    def heal(self) -> None:
        """Whatever is broken is mended at once, and nothing new is broken."""
        self._times.clear()
        self._trap.disarm()
        for process in self._fleet.processes:
            process.signal(signal.SIGCONT)
            for link in process.links.all:
                link.release()
                link.mend()
        self._servers.start_all()
        self._actions.forget()

    def _supervise(self, process: FleetProcess) -> None:
        if not process.ended:
            return
        start_at = self._start_at.setdefault(process.name, self._clock.now() + _START_AGAIN_S)
        if self._clock.now() >= start_at:
            del self._start_at[process.name]
            process.start()

    def _inject(self, fault: PlannedFault) -> None:
        outcome = self._actions.do(fault)
        if outcome is None:
            self.left_out += 1
        else:
            self._hit(fault, *outcome)

    def _hit(self, fault: PlannedFault, workers: Sequence[FleetProcess], note: str = "") -> None:
        names = tuple(worker.name for worker in workers)
        self.hits.append(Hit(fault.number, fault.kind, time.time(), fault.lasts_s, names, note))
