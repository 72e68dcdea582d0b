"""A lower bound of the makespan that no policy can beat, not even one that knows the future.

For each lane the two pools are fluids: every slot works all the time at what it is offered, jobs may be cut into
pieces that run on both at once, and everybody knows how long each job takes on either device. That is the linear
relaxation of makespan on unrelated machines (Lenstra, Shmoys and Tardos 1990). With two pools its optimum needs no
solver: what may go either way goes to the CPU in the order of its CPU seconds for each GPU second that it saves, until
both are done at the same time (the fractional knapsack, Dantzig 1957).

Jobs come over time: what comes after a moment can only be done after it, so the bound holds for the tail of the trace
from any moment on, and the largest of these counts. GPUs that are dead do nothing. And no job ends before its own
arrival and its shorter time.
"""

from collections.abc import Sequence

import numpy as np

from fleet.contracts import DevicePolicy, Lane, Pool
from routing_lab.scenarios import Death, Scenario
from routing_lab.work import Floats

#: Moments from which the tail of a trace is looked at.
_MOMENTS = 60


def bound_s(scenario: Scenario, cost_s: float) -> float:
    """Seconds from the first moment of the trace on; `cost_s` is what a job costs besides its model."""
    trace = scenario.trace
    policies = np.array([list(DevicePolicy).index(model.device) for model in trace.models])[trace.model]
    lanes = np.array([list(Lane).index(model.lane) for model in trace.models])[trace.model]
    gpu_s, cpu_s = trace.gpu_s + cost_s, trace.cpu_s + cost_s
    best = float((trace.at + np.minimum(gpu_s, cpu_s)).max())
    for number, lane in enumerate(Lane):
        mine = np.flatnonzero(lanes == number)
        if not len(mine):
            continue
        starts = np.unique(np.linspace(0, len(mine) - 1, _MOMENTS).astype(int))
        for first in starts if trace.at[mine[-1]] > 0 else starts[:1]:
            tail = mine[first:]
            # Only by whole moments: all that come at this one are in the tail.
            tail = mine[np.searchsorted(trace.at[mine], trace.at[tail[0]]) :]
            work = _Work(policies[tail], gpu_s[tail], cpu_s[tail])
            best = max(best, _ends(work, float(trace.at[tail[0]]), scenario, lane))
    return best


class _Work:
    """The least GPU seconds that are left over when the CPUs do so many seconds."""

    def __init__(self, policies: Floats, gpu_s: Floats, cpu_s: Floats) -> None:
        order = list(DevicePolicy)
        gpu_only = policies == order.index(DevicePolicy.GPU_ONLY)
        cpu_only = policies == order.index(DevicePolicy.CPU_ONLY)
        either = ~(gpu_only | cpu_only)
        self.cpu_least = float(cpu_s[cpu_only].sum())
        self.gpu_most = float(gpu_s[gpu_only | either].sum())
        by_ratio = np.argsort(cpu_s[either] / gpu_s[either])
        self._cpu = np.concatenate([[0.0], np.cumsum(cpu_s[either][by_ratio])])
        self._saved = np.concatenate([[0.0], np.cumsum(gpu_s[either][by_ratio])])

    def fits(self, gpu_room: float, cpu_room: float) -> bool:
        if cpu_room < self.cpu_least:
            return False
        saved = float(np.interp(cpu_room - self.cpu_least, self._cpu, self._saved))
        return self.gpu_most - saved <= gpu_room


def _ends(work: _Work, start: float, scenario: Scenario, lane: Lane) -> float:
    """The earliest moment at which it can be done, by halving."""
    low, high = start, start + 1.0
    while not work.fits(*_rooms(scenario, lane, start, high)):
        low, high = high, start + 2 * (high - start)
        if high > 1e9:
            raise ValueError(f"the {lane.value} jobs can never be done by these machines")
    while high - low > 1e-4 * max(1.0, high - start):
        middle = (low + high) / 2
        if work.fits(*_rooms(scenario, lane, start, middle)):
            high = middle
        else:
            low = middle
    return low


def _rooms(scenario: Scenario, lane: Lane, start: float, end: float) -> tuple[float, float]:
    """Slot seconds of either pool between two moments."""
    gpu = scenario.slots(Pool.GPU, lane) * (end - start)
    return gpu - _dead_s(scenario, lane, start, end), scenario.slots(Pool.CPU, lane) * (end - start)


def _dead_s(scenario: Scenario, lane: Lane, start: float, end: float) -> float:
    deaths: Sequence[Death] = [death for death in scenario.deaths if death.lane is lane]
    slots = next((part.slots for part in scenario.machines if part.pool is Pool.GPU and part.lane is lane), 0)
    return sum(slots * death.count * max(0.0, min(end, death.back_at) - max(start, death.at)) for death in deaths)
