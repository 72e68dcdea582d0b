"""The memory of one worker process, shared out among its runs before they allocate.

    reserve -> fits now: granted
            -> fits this worker, but not beside what runs: False, then `wait`, first come first served; but who
               holds some already and asks for more goes before who holds none, else each would wait for the other
            -> fits never: InputTooLarge `not-enough-memory`, with the numbers

What a run may have is the limit, less what is kept back, less what the process holds anyway (its floor: interpreter,
libraries, loaded models), less what the other runs were granted. Large requests also ask the machine, since others
may use it: neighbours on the host, or other workers in the same container.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fleet.errors import DependencyError, InputTooLarge, NoCapableWorker
from fleet.logs import get_logger
from worker.memory.limit import GIB, MIB, Limit, LimitedBy

#: How often a waiting run looks again: whether it is to stop, and what the machine has.
_TICK_S = 0.1
#: How long a run waits when nothing of this worker runs and the memory is still not there: others have it.
_PATIENCE_S = 60.0
#: How long all runs that hold memory may wait for more before one of them gives way: some ticks.
_STUCK_S = 1.0
#: Up to here the machine is not asked: that costs more than it saves.
_SMALL_BYTES = 64 * MIB
_ADVICE = {
    LimitedBy.SETTING: "raise WORKER_MEMORY_BYTES",
    LimitedBy.CGROUP: "raise the memory limit of the worker's container",
    LimitedBy.MACHINE: "give the worker a machine with more memory",
}
log = get_logger(__name__)


@dataclass(eq=False)
class Holding:
    """What one run was granted. Belongs to the run's thread; `bytes` changes under the budget's lock."""

    bytes: int = 0
    #: Of what may be let go now, what this very run needs: its model.
    keeps: Callable[[], int] = lambda: 0


@dataclass
class _Floor:
    """What the process holds without any run: as last measured, and the least that it can do with."""

    now: int
    least: int
    known: bool = False

    def measured(self, used: int, *, bare: bool) -> None:
        """`bare`: after everything was given back that can be."""
        self.known = self.known or bare
        self.now = used
        self.least = used if bare else min(self.least, used)


class Budget:
    """Thread-safe. `used` is what this process and its children hold, `free` what the machine could still give."""

    def __init__(
        self,
        limit: Limit,
        *,
        used: Callable[[], int],
        free: Callable[[], int],
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self.limit = limit
        #: Gives back caches that no run needs now. Set once, by whoever has them; called from any thread.
        self.give_back: Callable[[], object] = lambda: None
        #: What the process holds and could do without, used now or not: loaded models. Set once, with `let_go`.
        self.may_go: Callable[[], int] = lambda: 0
        #: Gives back so many bytes of that, of what is not used now. Called from any thread, with the lock held.
        self.let_go: Callable[[int], object] = lambda count: None
        self._used = used
        self._free = free
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._granted: set[Holding] = set()
        self._line: list[Holding] = []
        #: Whether there may be something to give back: a run has ended or shrunk since it was last done.
        self._caches = True
        floor = used()
        self._floor = _Floor(floor, floor)

    @property
    def usable_bytes(self) -> int:
        """The limit less what is kept back: for the process and all its runs."""
        return max(0, self.limit.bytes - self.limit.reserve_bytes)

    @property
    def most_bytes(self) -> int:
        """What one run could have if it were alone, and no model were loaded that may go."""
        return self.most_for(Holding())

    def most_for(self, mine: Holding) -> int:
        """What this one could have if it were alone."""
        return max(0, self.usable_bytes - self._floor.least + max(0, self.may_go() - mine.keeps()))

    @property
    def held_bytes(self) -> int:
        """What the process holds without any run, as far as is known."""
        return self._floor.least

    @property
    def granted_bytes(self) -> int:
        with self._changed:
            return self._sum()

    @property
    def waiting(self) -> int:
        return len(self._line)

    def alone(self) -> bool:
        """Whether at most one run holds anything: only then does the process's memory tell what that run takes."""
        return len(self._granted) <= 1

    def grew(self, count: int) -> None:
        """The process holds so much more, and keeps it: a model was loaded. Less than nothing: one was closed."""
        with self._changed:
            self._floor.now = max(0, self._floor.now + count)
            self._floor.least = max(0, self._floor.least + count)
            self._changed.notify_all()

    def reserve(self, mine: Holding, wanted: int, what: str) -> bool:
        """Sets what a run holds from here on. False: not now, `wait` for it. Less than before is always granted.

        `what` begins the sentence of the error. Raises InputTooLarge `not-enough-memory`.
        """
        with self._changed:
            if wanted > mine.bytes:
                self._refuse_what_never_fits(mine, wanted, what)
                if self._place(mine) or not self._fits(mine, wanted):
                    return False
            self._set(mine, wanted)
            return True

    def wait(self, mine: Holding, wanted: int, what: str, check: Callable[[], None]) -> None:
        """Until it is this run's turn and there is room. `check` is called all the while, and ends it by raising.

        Raises DependencyError `memory-busy`, to be tried again, when others than this worker's runs have the memory;
        NoCapableWorker `memory-shared-out` when runs that hold some wait for each other, and this one has the least.
        """
        with self._in_line(mine):
            log.info("waiting for memory", wanted_mib=wanted // MIB, granted_mib=self._sum() // MIB)
            since = time.monotonic()
            while self._line[0] is not mine or not self._fits(mine, wanted):
                check()
                self._refuse_what_never_fits(mine, wanted, what)
                if self._granted.difference(self._line):
                    since = time.monotonic()
                elif time.monotonic() - since > self._patience_s:
                    raise self._busy(wanted, what)
                elif time.monotonic() - since > _STUCK_S and self._least_of_several(mine):
                    raise self._shared_out(wanted, what)
                elif self._line[0] is mine and self.may_go() > mine.keeps():
                    # Models of runs that stand behind it are in its way: those first, or each waits for the other.
                    self._line.append(self._line.pop(0))
                    self._changed.notify_all()
                elif self._line[0] is mine and mine.bytes:
                    # The next of those that hold memory may fit.
                    self._line.insert(self._place(mine) - 1, self._line.pop(0))
                self._changed.wait(_TICK_S)
            self._set(mine, wanted)

    def reserve_all(self, mine: Holding, check: Callable[[], None]) -> int:
        """Once no other run holds anything, all that there is -> bytes. `mine` holds nothing yet."""
        with self._in_line(mine):
            while self._line[0] is not mine or self._granted:
                check()
                self._changed.wait(_TICK_S)
            self._measure(bare=True)
            self._set(mine, max(0, min(self.usable_bytes - self._floor.now, self._free())))
            return mine.bytes

    @contextmanager
    def _in_line(self, mine: Holding) -> Iterator[None]:
        """Holds the lock."""
        with self._changed:
            self._line.insert(self._place(mine), mine)
            try:
                yield
            finally:
                self._line.remove(mine)
                self._changed.notify_all()

    def _place(self, mine: Holding) -> int:
        """How many in the line come before one that joins it."""
        return sum(one.bytes > 0 for one in self._line) if mine.bytes else len(self._line)

    def _least_of_several(self, mine: Holding) -> bool:
        """Of those in the line that hold memory."""
        holding = [one for one in self._line if one.bytes]
        return len(holding) > 1 and min(holding, key=lambda one: one.bytes) is mine

    def release(self, mine: Holding) -> None:
        if mine.bytes:
            with self._changed:
                self._set(mine, 0)

    def _sum(self) -> int:
        return sum(holding.bytes for holding in self._granted)

    def _set(self, mine: Holding, count: int) -> None:
        if count < mine.bytes:
            self._caches = True
        mine.bytes = count
        (self._granted.add if count else self._granted.discard)(mine)
        self._changed.notify_all()

    def _fits(self, mine: Holding, wanted: int) -> bool:
        others = self._sum() - mine.bytes
        if not self._granted:
            # The first time of all tells what the process holds once it is complete.
            self._measure(bare=not self._floor.known)
        if self._floor.now + others + wanted > self.usable_bytes and self._caches:
            self._measure(bare=True)
        missing = self._floor.now + others + wanted - self.usable_bytes
        if missing > 0 and self.may_go() > mine.keeps():
            self.let_go(missing)
            self._measure(bare=False)
        if self._floor.now + others + wanted > self.usable_bytes:
            return False
        return wanted <= _SMALL_BYTES or self._machine_has(wanted, others)

    def _measure(self, *, bare: bool) -> None:
        """What the process holds without runs, if none has anything now; `bare`: caches are given back first."""
        if bare and self._caches:
            self._caches = False
            self.give_back()
        if not self._granted:
            self._floor.measured(self._used(), bare=not self._caches)

    def _machine_has(self, wanted: int, others: int) -> bool:
        """Beside what the other runs were granted and have not taken yet."""
        to_come = max(0, others - max(0, self._used() - self._floor.now)) if others else 0
        return wanted + to_come <= self._free()

    def _refuse_what_never_fits(self, mine: Holding, wanted: int, what: str) -> None:
        most = self.most_for(mine)
        if wanted <= most:
            return
        raise InputTooLarge(
            f"{what} would take an estimated {shown(wanted)} of memory at its peak, and a job on this worker may take "
            f"{shown(most)}: {self._account()}. Crop the input or send it to a larger worker, or "
            f"{_ADVICE[self.limit.by]}",
            code="not-enough-memory",
            **self._facts(wanted, most),
        )

    def _busy(self, wanted: int, what: str) -> DependencyError:
        return DependencyError(
            f"{what} would take an estimated {shown(wanted)} of memory at its peak, which this worker may use, but "
            f"other processes hold it: {shown(self._free())} are free. Stop them, or give each worker its own share "
            "with WORKER_MEMORY_BYTES",
            code="memory-busy",
            **self._facts(wanted, self.most_bytes),
        )

    def _shared_out(self, wanted: int, what: str) -> NoCapableWorker:
        return NoCapableWorker(
            f"{what} would take an estimated {shown(wanted)} of memory at its peak, which other jobs of this worker "
            "hold while they wait for more themselves: give it more memory, or fewer jobs at a time",
            code="memory-shared-out",
            **self._facts(wanted, self.most_bytes),
        )

    def _account(self) -> str:
        whose = {
            LimitedBy.SETTING: "by WORKER_MEMORY_BYTES",
            LimitedBy.CGROUP: "by its cgroup's limit",
            LimitedBy.MACHINE: "of the machine",
        }[self.limit.by]
        return (
            f"{shown(self.limit.bytes)} {whose}, less {shown(self.limit.reserve_bytes)} kept back and "
            f"{shown(self._floor.least)} that the worker itself holds"
        )

    def _facts(self, wanted: int, most: int) -> dict[str, int | str]:
        return {
            "estimated_bytes": wanted,
            "allowed_bytes": most,
            "limit_bytes": self.limit.bytes,
            "limited_by": self.limit.by.value,
        }


def shown(count: int) -> str:
    """Bytes for people: `512 MiB`, `3.42 GiB`."""
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{-(-count // MIB)} MiB"
