"""What came out of a run."""

from array import array
from dataclasses import dataclass, field

import numpy as np

from fleet.contracts import Lane, Priority
from routing_lab.work import Floats, Job


class Measures:
    """Filled by the world, job by job; a job counts under the priority that was asked for."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.makespan_s = 0.0
        #: Jobs that might have run on a GPU and ran on a CPU; those of them that began while a GPU was idle.
        self.on_cpu = 0
        self.needless = 0
        #: Queues that CPU workers joined and left.
        self.switches = 0
        #: Runs that died with their worker.
        self.lost_runs = 0
        self.flexible = 0
        self._waits: dict[tuple[Lane, Priority], array[float]] = {}
        self._stays: dict[tuple[Lane, Priority], array[float]] = {}

    def ended(self, job: Job, began: float, now: float) -> None:
        key = (job.model.lane, job.asked)
        if key not in self._waits:
            self._waits[key], self._stays[key] = array("d"), array("d")
        self._waits[key].append(began - job.at)
        self._stays[key].append(now - job.at)
        self.flexible += job.model.flexible

    def spread(self, lane: Lane, priority: Priority) -> "Spread | None":
        key = (lane, priority)
        return Spread.of(self._waits[key], self._stays[key]) if key in self._waits else None

    def stays(self) -> Floats:
        """Seconds from submit to end, of all jobs."""
        every: Floats = np.concatenate([np.asarray(part) for part in self._stays.values()])
        return every


@dataclass(frozen=True)
class Spread:
    """Seconds of waiting (start - submit) and of staying (end - submit)."""

    jobs: int
    wait_p50: float
    wait_p95: float
    wait_p99: float
    stay_p95: float

    @classmethod
    def of(cls, waits: "array[float]", stays: "array[float]") -> "Spread":
        p50, p95, p99 = (float(value) for value in np.percentile(np.asarray(waits), [50, 95, 99]))
        return cls(len(waits), p50, p95, p99, float(np.percentile(np.asarray(stays), 95)))


@dataclass(frozen=True)
class Outcome:
    """One policy in one scenario."""

    scenario: str
    scale: str
    policy: str
    jobs: int
    makespan_s: float
    bound_s: float
    mean_stay_s: float
    cpu_share: float
    needless: int
    switches: int
    lost_runs: int
    took_s: float
    spreads: dict[str, Spread] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.makespan_s / self.bound_s
