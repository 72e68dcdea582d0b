"""One run's share of the budget: what `Progress.admit` does, behind the run's stop token and its clock."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import InputTooLarge
from fleet.logs import get_logger
from worker.memory.budget import Budget, Holding
from worker.memory.cgroup import find_cgroup
from worker.memory.limit import MIB, find_limit, free_bytes, lies_in_memory, used_bytes
from worker.memory.room import ArrayRoom

log = get_logger(__name__)


@dataclass(frozen=True)
class Memory:
    """The budget of the process and the folder that its runs may use instead; gives each run its share."""

    budget: Budget
    scratch: Path
    #: Then files in it take memory, and using it instead would save nothing.
    scratch_in_memory: bool
    #: Told of each run that can never fit.
    refused: Callable[[], object] = lambda: None

    @classmethod
    def of_process(cls, setting_bytes: int, scratch: Path, refused: Callable[[], object]) -> "Memory":
        """Finds out what this process may use, and logs it. `setting_bytes`: WORKER_MEMORY_BYTES."""
        cgroup = find_cgroup()
        budget = Budget(find_limit(setting_bytes, cgroup), used=used_bytes, free=lambda: free_bytes(cgroup))
        memory = cls(budget, scratch, lies_in_memory(scratch), refused)
        log.info(
            "memory budget",
            limit_mib=budget.limit.bytes // MIB,
            limited_by=budget.limit.by.value,
            kept_back_mib=budget.limit.reserve_bytes // MIB,
            held_mib=budget.held_bytes // MIB,
            for_jobs_mib=budget.most_bytes // MIB,
            scratch_in_memory=memory.scratch_in_memory,
        )
        return memory

    def share(self, extend: Callable[[float], object]) -> "Share":
        """`extend` is told the seconds that the run spent waiting, which are not to count against it."""
        return Share(self, extend)


@dataclass
class Share:
    """Used by the run's threads, of which only one asks for more at a time."""

    memory: Memory
    extend: Callable[[float], object]
    _holding: Holding = field(default_factory=Holding)

    @property
    def most_bytes(self) -> int:
        return self.memory.budget.most_for(self._holding)

    def keep(self, count: Callable[[], int]) -> None:
        """Told when asked: how much of what the process could do without is what this run needs, its model."""
        self._holding.keeps = count

    def admit(
        self,
        what: str,
        peak_bytes: int,
        *,
        lean_bytes: int | None,
        scratch_bytes: int,
        check: Callable[[], None],
        queueing: Callable[[], AbstractContextManager[None]],
    ) -> ArrayRoom:
        """As `worker.contract.Progress.admit`; `queueing` surrounds the time spent waiting."""
        in_memory = self.memory.scratch_in_memory
        files = scratch_bytes if in_memory else 0
        choices = [(peak_bytes + files, ArrayRoom())]
        if lean_bytes is not None and not in_memory:
            choices.append((lean_bytes, ArrayRoom(self.memory.scratch)))
        for wanted, room in choices:
            try:
                self._take(wanted, what, check, queueing)
            except InputTooLarge:
                if room is choices[-1][1]:
                    self.memory.refused()
                    raise
            else:
                return room
        raise AssertionError("the last choice returns or raises")

    def _take(
        self,
        wanted: int,
        what: str,
        check: Callable[[], None],
        queueing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        if not self.memory.budget.reserve(self._holding, wanted, what):
            with queueing():
                self.memory.budget.wait(self._holding, wanted, what, self._timed(check))

    def admit_all(self, check: Callable[[], None], queueing: Callable[[], AbstractContextManager[None]]) -> int:
        """As `worker.contract.Progress.admit_all`."""
        self.release()
        with queueing():
            return self.memory.budget.reserve_all(self._holding, self._timed(check))

    def _timed(self, check: Callable[[], None]) -> Callable[[], None]:
        """The same check; the time between its calls does not count against the run."""
        looked_at = time.monotonic()

        def look() -> None:
            nonlocal looked_at
            check()
            since, looked_at = looked_at, time.monotonic()
            self.extend(looked_at - since)

        return look

    def release(self) -> None:
        """At the end of the run, whatever came of it."""
        self.memory.budget.release(self._holding)
