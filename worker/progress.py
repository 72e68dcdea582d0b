"""Where a run is: stage and fraction for its users, seconds per stage for the record."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from fleet.contracts import Stage
from worker.contract import Parts
from worker.memory.room import ArrayRoom
from worker.memory.share import Share
from worker.stop import StopToken

#: Share of the bar that a stage begins at; inference moves between its own and the next.
_BEGINS = {
    Stage.LOAD: 0.0,
    Stage.FETCH: 0.0,
    Stage.DECODE: 0.02,
    Stage.PREPARE: 0.05,
    Stage.INFER: 0.08,
    Stage.FINISH: 0.92,
    Stage.ENCODE: 0.95,
    Stage.STORE: 0.98,
}


class KeptParts(Parts, Protocol):
    """Parts of which it is known whether there were any."""

    @property
    def found(self) -> bool: ...


class NothingKept:
    """Parts of what has no later attempt."""

    found = False

    def __init__(self, hinges_on: str) -> None:
        pass

    def read(self, name: str) -> bytes | None:
        return None

    def keep(self, name: str, content: bytes) -> None:
        pass


class JobProgress:
    """Progress of one run. Written by the run's thread, read by the lease keeper's."""

    def __init__(self, stop: StopToken, folder: Path | None = None) -> None:
        #: The run's part of the worker's memory; without one, whatever is asked for is admitted.
        self.share: Share | None = None
        #: Gives the parts that outlive the attempt; without it none do.
        self.keeping: Callable[[str], KeptParts] = NothingKept
        #: Whether an earlier attempt had done a part of the work.
        self.resumed = False
        self._folder = folder
        self._stop = stop
        self._lock = threading.Lock()
        self._stage: Stage | None = None
        self._fraction = 0.0
        self._timings: dict[Stage, float] = {}
        self._began = time.perf_counter()
        self._noted_s = 0.0

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Times the block. Nested stages count their own time only."""
        self._stop.check()
        with self._lock:
            outer, self._stage = self._stage, stage
            self._fraction = max(self._fraction, _BEGINS.get(stage, 0.0))
            inner_before = sum(self._timings.values())
        began = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - began
            with self._lock:
                inner = sum(self._timings.values()) - inner_before
                self._timings[stage] = self._timings.get(stage, 0.0) + max(0.0, elapsed - inner)
                self._stage = outer

    def advance(self, done: int, total: int) -> None:
        self._stop.check()
        begin, end = _BEGINS[Stage.INFER], _BEGINS[Stage.FINISH]
        with self._lock:
            self._fraction = max(self._fraction, begin + (end - begin) * min(1.0, done / max(1, total)))

    def check(self) -> None:
        self._stop.check()

    @property
    def memory_bytes(self) -> int:
        return self.share.most_bytes if self.share else sys.maxsize

    def admit(self, what: str, peak_bytes: int, *, lean_bytes: int | None = None, scratch_bytes: int = 0) -> ArrayRoom:
        """Time spent waiting is shown as time in the queue."""
        if self.share is None:
            return ArrayRoom()
        return self.share.admit(
            what,
            peak_bytes,
            lean_bytes=lean_bytes,
            scratch_bytes=scratch_bytes,
            check=self._stop.check,
            queueing=self._queueing,
        )

    def admit_all(self) -> int:
        return self.share.admit_all(self._stop.check, self._queueing) if self.share else sys.maxsize

    def _queueing(self) -> AbstractContextManager[None]:
        return self.stage(Stage.QUEUE)

    @property
    def folder(self) -> Path:
        if self._folder is None:
            raise ValueError("this run has no folder")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return self._folder

    @folder.setter
    def folder(self, folder: Path) -> None:
        self._folder = folder

    def parts(self, hinges_on: str) -> Parts:
        parts = self.keeping(hinges_on)
        self.resumed = self.resumed or parts.found
        return parts

    def note(self, stage: Stage, seconds: float) -> None:
        """A duration that was measured elsewhere."""
        with self._lock:
            self._timings[stage] = self._timings.get(stage, 0.0) + seconds
            self._noted_s += seconds

    @property
    def between_stages_s(self) -> float:
        """Seconds since the claim that belong to no stage."""
        with self._lock:
            return time.perf_counter() - self._began - (sum(self._timings.values()) - self._noted_s)

    @property
    def shown(self) -> tuple[str | None, float]:
        """(stage, fraction 0..1) for the record, rounded so that tiny steps write nothing."""
        with self._lock:
            return (self._stage.value if self._stage else None, round(self._fraction, 3))

    @property
    def timings(self) -> dict[str, float]:
        """Seconds per stage, in the order of the stages."""
        with self._lock:
            return {stage.value: round(self._timings[stage], 6) for stage in Stage if stage in self._timings}
