"""When a job will start and end: its queue is played through some dozens of times, with service times that are drawn
from the cost model. What comes out of four of five of these futures is the range. Pure; `forecasts.py` calls it.

Each future goes by the rule of the workers: whoever is free first takes the next job (list scheduling, Graham 1969).
Two things are not foreseen: more urgent jobs that come later, and workers that come or go.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heapreplace
from random import Random
from statistics import NormalDist

from fleet.contracts import Pool
from fleet.cost import Basis, Estimate

_FUTURES = 40
#: So many jobs before it are played one by one; those before them flow, as by the law of large numbers they do.
_PLAYED = 24
#: A larger fleet is played through at this size, with as many jobs less.
_SLOTS = 24
#: Of the standard deviation of the logarithm: the part that is an error about the kind and the same for all its jobs.
_SHARED = {Basis.MEASURED: 0.1, Basis.SIMILAR: 0.3, Basis.CARD: 1.0}
#: Of jobs of which only the mean is known.
_USUAL_SIGMA, _LEAST_SIGMA = 0.5, 0.05
#: The tenth and the ninetieth part in a hundred of a normal distribution.
_Z = 1.2816
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Takes:
    """Seconds that a job holds a slot, log-normal: `sigma` differs from job to job, `shared` is our own error."""

    mean_log: float
    sigma: float
    shared: float

    @classmethod
    def of(cls, estimate: Estimate) -> "Takes":
        low, high = math.log(estimate.low_s), math.log(estimate.high_s)
        sigma, shared = (high - low) / (2 * _Z), _SHARED[estimate.basis]
        own = math.sqrt(max(sigma**2 - shared**2, _LEAST_SIGMA**2))
        return cls((low + high) / 2, own, shared)

    @classmethod
    def about(cls, mean_s: float) -> "Takes":
        """Of jobs whose mean is all that is known."""
        return cls(math.log(max(mean_s, 1e-4)) - _USUAL_SIGMA**2 / 2, _USUAL_SIGMA, _SHARED[Basis.MEASURED])

    @property
    def mean_s(self) -> float:
        return math.exp(self.mean_log + min(1.0, self.sigma**2 + self.shared**2) / 2)

    def draw(self, luck: float, dice: Random) -> float:
        """`luck` is one number for a whole future, of a standard normal distribution."""
        return math.exp(self.mean_log + self.shared * luck + self.sigma * dice.gauss(0.0, 1.0))


@dataclass(frozen=True)
class Running:
    """A job in a slot. `since_s`: how long already; None where nobody knows."""

    takes: Takes
    since_s: float | None
    progress: float = 0.0

    def rest(self, luck: float, dice: Random) -> float:
        """Seconds that are left, drawn from what jobs take that have lasted so long.

        What its own progress says, since_s (1 - p) / p, counts with the weight p^2: early on that is mostly noise.
        """
        if self.since_s is None:
            return self.takes.draw(luck, dice) * dice.random()
        mean_log, sigma = self.takes.mean_log + self.takes.shared * luck, self.takes.sigma
        since_log = math.log(max(self.since_s, 1e-4))
        passed = _NORMAL.cdf((since_log - mean_log) / sigma)
        if passed > 0.98:
            # It has outlived what was believed of it, so that is wrong: as far as one sees it is at a usual point.
            mean_log, sigma, passed = since_log, max(sigma, 0.3), 0.5
        part = passed + (1 - passed) * dice.random()
        whole = math.exp(mean_log + sigma * _NORMAL.inv_cdf(min(max(part, 1e-6), 1 - 1e-6)))
        done = self.progress
        return (1 - done**2) * max(0.0, whole - self.since_s) + done * (1 - done) * self.since_s


@dataclass(frozen=True)
class Slot:
    """A place for one job at a worker."""

    worker: str
    pool: Pool
    busy: Running | None = None


@dataclass(frozen=True)
class Stage:
    """Jobs that go first, with what some of them take on either kind of device, and the slots that take them."""

    jobs: float
    takes: Mapping[Pool, Sequence[Takes]]
    slots: Sequence[Slot]

    @cached_property
    def means(self) -> dict[Pool, tuple[float, float, float]]:
        return {pool: _means(mix) for pool, mix in self.takes.items()}


@dataclass(frozen=True)
class Range:
    """Seconds from now: as likely earlier as later than `expected_s`; four times of five within the rest."""

    earliest_s: float
    expected_s: float
    latest_s: float


@dataclass(frozen=True)
class Outlook:
    start: Range
    end: Range


def outlook(stages: Sequence[Stage], own: Mapping[Pool, Takes], seed: int) -> Outlook:
    """Of a job that comes after all jobs of the last stage, in that stage's slots. There must be some.

    `own`: what it takes itself. The same facts and the same `seed` give the same outlook.
    """
    dice = Random(seed)  # noqa: S311 (draws a sample, hides nothing)
    last = list(stages[-1].slots)
    slots = list({id(slot): slot for stage in stages for slot in stage.slots}.values())
    share = min(1.0, _SLOTS / len(last))
    starts, ends = [], []
    for _ in range(_FUTURES):
        future = _Future(slots if share == 1.0 else _some(slots, last, share, dice), dice)
        for stage in stages:
            future.play(stage, stage.jobs * share)
        first, start = future.first(last)
        starts.append(start)
        ends.append(start + own[first.pool].draw(future.luck, dice))
    return Outlook(_range(starts), _range(ends))


def rest(running: Running, seed: int) -> Range:
    """Until the end of a job that runs."""
    dice = Random(seed)  # noqa: S311 (draws a sample, hides nothing)
    return _range([running.rest(dice.gauss(0.0, 1.0), dice) for _ in range(_FUTURES)])


class _Future:
    """One way in which it may go: our error, and the moments at which the slots are free."""

    def __init__(self, slots: Sequence[Slot], dice: Random) -> None:
        self.luck = dice.gauss(0.0, 1.0)
        self._dice = dice
        self._free = {id(slot): slot.busy.rest(self.luck, dice) if slot.busy else 0.0 for slot in slots}

    def first(self, slots: Sequence[Slot]) -> tuple[Slot, float]:
        """That one of the slots that is free first, and when."""
        slot = min(self._present(slots), key=lambda one: self._free[id(one)])
        return slot, self._free[id(slot)]

    def play(self, stage: Stage, jobs: float) -> None:
        """So many jobs of the stage are taken."""
        slots = self._present(stage.slots)
        if not slots:
            return
        if jobs > _PLAYED:
            self._flow(stage, slots, jobs - _PLAYED)
        whole = min(_PLAYED, math.floor(jobs + self._dice.random()))
        order = [(self._free[id(slot)], place) for place, slot in enumerate(slots)]
        heapify(order)
        luck, dice, toss = self.luck, self._dice, self._dice.random
        for _ in range(whole):
            at, place = order[0]
            mix = stage.takes[slots[place].pool]
            heapreplace(order, (at + mix[int(toss() * len(mix))].draw(luck, dice), place))
        for at, place in order:
            self._free[id(slots[place])] = at

    def _flow(self, stage: Stage, slots: Sequence[Slot], jobs: float) -> None:
        """Fills the slots with so many jobs like vessels with water: they are free about one moment, or later."""
        # The mean of many jobs: what differs between them is gone but for its root, what we err about stays.
        noise = self._dice.gauss(0.0, 1.0) / math.sqrt(jobs)
        takes = {
            pool: mean_s * math.exp(shared * self.luck) * max(0.05, 1 + deviation * noise)
            for pool, (mean_s, deviation, shared) in stage.means.items()
        }
        left, rate, level = jobs, 0.0, 0.0
        for at, pool in sorted((self._free[id(slot)], slot.pool) for slot in slots):
            if rate and (at - level) * rate >= left:
                break
            left -= (at - level) * rate
            level, rate = at, rate + 1 / takes[pool]
        level += left / rate
        for slot in slots:
            if self._free[id(slot)] <= level:
                # Somewhere within a job: they do not march in step.
                self._free[id(slot)] = level + (self._dice.random() - 0.5) * takes[slot.pool]

    def _present(self, slots: Sequence[Slot]) -> list[Slot]:
        return [slot for slot in slots if id(slot) in self._free]


def _some(slots: Sequence[Slot], last: Sequence[Slot], share: float, dice: Random) -> list[Slot]:
    """That part of the slots; at least one of those that matter."""
    return [*(slot for slot in slots if dice.random() < share), dice.choice(last)]


def _means(mix: Sequence[Takes]) -> tuple[float, float, float]:
    """-> mean seconds of one of these jobs, its deviation as a part of that, and how wrong all may be."""
    mean_s = sum(kind.mean_s for kind in mix) / len(mix)
    square = sum(kind.mean_s**2 * math.exp(min(1.0, kind.sigma**2)) for kind in mix) / len(mix)
    shared = sum(kind.mean_s * kind.shared for kind in mix) / (mean_s * len(mix))
    return mean_s, math.sqrt(max(0.0, square / mean_s**2 - 1)), shared


def _range(seconds: list[float]) -> Range:
    ordered = sorted(seconds)

    def part(which: float) -> float:
        place = which * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    # A little more than the tenth to the ninetieth part, since they are parts of a sample.
    return Range(part(0.08), part(0.5), part(0.92))
