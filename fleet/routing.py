"""Routing: pure functions from the state of the fleet to a decision and its reason in words.

    route     (card, request, fleet)  -> the queue of a new job
    helpers   (fleet, before, now)    -> which CPU workers take from which queues of the GPUs
    expected_wait_s                   -> how long a job that comes now would wait

The simulator (`benchmarks/routing.py`) calls these very functions. A fleet here is what the leading front door sees of
it once a second (`traffic.py`); a second later it may be different, so every decision must be a safe one: a message
that is taken by the "wrong" worker is a job that runs there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fleet.contracts import DevicePolicy, Lane, Pool, Priority
from fleet.cost import usual_s
from fleet.queues import QueueKind, QueueName

#: A CPU worker joins a queue of the GPUs when the wait there is longer than what the CPU takes more, times this. The
#: same for every priority: the simulator finds nothing in keeping CPUs longer from urgent jobs (decision 0012).
JOIN = 1.0
#: It leaves when the wait has fallen below this part of it, and not before it has stayed so long.
LEAVE = 0.8
HOLD_S = 2.0


@dataclass(frozen=True)
class Member:
    """A worker process that lives and takes jobs."""

    name: str
    pool: Pool
    lanes: tuple[Lane, ...]
    #: Jobs that it runs at once.
    slots: int
    #: Expected seconds that are left of what it runs now, all jobs together.
    busy_s: float = 0.0
    running: int = 0
    #: Whether it goes where it is sent, beyond its own queues.
    helps: bool = True
    #: "name/version" of the models that it can serve.
    models: frozenset[str] = frozenset()
    #: What service times are learned by, see `cost.py`.
    kind: str = "cpu"


@dataclass(frozen=True)
class Load:
    """What waits in a queue, and the mean seconds that one of its jobs takes on either kind of device."""

    jobs: int
    gpu_s: float
    cpu_s: float
    #: Seconds that the job has waited that has waited longest.
    oldest_s: float = 0.0
    #: "name/version" of what its first jobs ask for, as far as it is known.
    models: frozenset[str] = frozenset()

    def seconds(self, pool: Pool) -> float:
        return self.gpu_s if pool is Pool.GPU else self.cpu_s


@dataclass(frozen=True)
class Help:
    """CPU workers that take from a queue of the GPUs, and why."""

    workers: tuple[str, ...]
    why: str
    #: Of the clock that the caller uses: when the number of workers last changed.
    changed_at: float = 0.0


@dataclass(frozen=True)
class Fleet:
    members: tuple[Member, ...]
    #: By queue; one that is missing is empty.
    loads: Mapping[str, Load] = field(default_factory=dict)

    def serving(self, pool: Pool, lane: Lane) -> Sequence[Member]:
        return self._by_place.get((pool, lane), ())

    def slots(self, pool: Pool, lane: Lane) -> int:
        return sum(member.slots for member in self.serving(pool, lane))

    @cached_property
    def _by_place(self) -> Mapping[tuple[Pool, Lane], Sequence[Member]]:
        """A fleet is asked often, of a thousand jobs a second."""
        places: dict[tuple[Pool, Lane], list[Member]] = {}
        for member in self.members:
            for lane in member.lanes:
                places.setdefault((member.pool, lane), []).append(member)
        return places

    @cached_property
    def rests(self) -> Mapping[tuple[Pool, Lane], tuple[int, int, float]]:
        """Of the workers of a pool and lane: slots, running jobs, and seconds that these still need."""
        return {
            place: (
                sum(member.slots for member in serving),
                sum(member.running for member in serving),
                sum(member.busy_s for member in serving),
            )
            for place, serving in self._by_place.items()
        }


@dataclass(frozen=True)
class Route:
    pool: Pool
    lane: Lane
    why: str


def route(
    device: DevicePolicy,
    lane: Lane,
    priority: Priority,
    fleet: Fleet,
    takes_s: Mapping[Pool, float] | None = None,
    *,
    model: str = "",
) -> Route:
    """Where a job goes. `takes_s`: how long it is expected to take on either kind of device; `model`: "name/version".

    A model of policy `any` goes where it is expected to end first; `prefer-gpu` goes to the GPUs while one is alive:
    if it waits too long there, a CPU worker comes and takes it (see `helpers`).
    """
    if device is DevicePolicy.GPU_ONLY:
        return Route(Pool.GPU, lane, "the model runs on a GPU only")
    if device is DevicePolicy.CPU_ONLY:
        return Route(Pool.CPU, lane, "the model runs on a CPU only")
    if not fleet.serving(Pool.GPU, lane):
        return Route(Pool.CPU, lane, f"no GPU worker of the {lane.value} lane is alive")
    holding = [pool for pool in Pool if _holds(fleet, pool, lane, model)]
    if holding == [Pool.CPU]:
        return Route(Pool.CPU, lane, f"no GPU worker of the {lane.value} lane holds the model")
    if device is DevicePolicy.PREFER_GPU or holding == [Pool.GPU] or not fleet.serving(Pool.CPU, lane):
        return Route(Pool.GPU, lane, "a GPU worker is alive")
    takes = takes_s or {pool: usual_s(lane, pool) for pool in Pool}
    ends = {pool: expected_wait_s(fleet, pool, lane, priority) + takes[pool] for pool in Pool}
    best = min(Pool, key=lambda pool: ends[pool])
    other = Pool.CPU if best is Pool.GPU else Pool.GPU
    why = f"done in {words(ends[best])} on a {best.name}, {words(ends[other])} on a {other.name}"
    return Route(best, lane, why)


def capable(fleet: Fleet, device: DevicePolicy, lane: Lane, model: str) -> bool:
    """Whether any worker that lives now can run the job; `model` is "name/version"."""
    pools = {DevicePolicy.GPU_ONLY: (Pool.GPU,), DevicePolicy.CPU_ONLY: (Pool.CPU,)}.get(device, tuple(Pool))
    return any(_holds(fleet, pool, lane, model) for pool in pools)


def _holds(fleet: Fleet, pool: Pool, lane: Lane, model: str) -> bool:
    return any(model in member.models for member in fleet.serving(pool, lane))


def expected_wait_s(fleet: Fleet, pool: Pool, lane: Lane, priority: Priority) -> float:
    """Seconds until a job that joins the end of that queue starts, served by the pool's own workers alone.

    All work that is at least as urgent, shared by all slots; infinite without a worker.
    """
    slots, running, busy_s = fleet.rests.get((pool, lane), (0, 0, 0.0))
    if not slots:
        return math.inf
    ahead = [fleet.loads[name] for name in _AHEAD[pool, lane, priority] if name in fleet.loads]
    ahead_s = sum(load.jobs * load.seconds(pool) for load in ahead)
    if not ahead_s and running < slots:
        return 0.0
    return (ahead_s + busy_s) / slots


#: The queues of a pool that go before the end of one of its queues, or are it.
_AHEAD = {
    (pool, lane, priority): tuple(
        str(QueueName(kind, lane, rank))
        for kind in QueueKind
        if kind.pool is pool
        for rank in Priority
        if rank <= priority
    )
    for pool in Pool
    for lane in Lane
    for priority in Priority
}
#: Those in which CPU workers may help, from the low end.
_HELPED = {
    lane: {
        str(queue): queue
        for queue in (QueueName(QueueKind.GPU, lane, priority) for priority in sorted(Priority, reverse=True))
    }
    for lane in Lane
}


def helpers(fleet: Fleet, before: Mapping[str, Help], now: float) -> dict[str, Help]:
    """Which CPU workers take from which queues of the GPUs besides their own: queue -> Help.

    While no GPU lives in a lane, all of them from every queue. Else so many as there are jobs that wait longer for a
    GPU than a CPU would take more (the threshold rule of the slow-server problem, Lin and Kumar 1984, for each queue):
    never all of them for one job. Low jobs wait longest, so help begins at the low end by itself. It stays until the
    wait has fallen below that.
    """
    found: dict[str, Help] = {}
    for lane in Lane:
        willing = [member for member in fleet.serving(Pool.CPU, lane) if member.helps]
        if not willing:
            continue
        for name, queue in _HELPED[lane].items():
            if name not in fleet.loads and name not in before and fleet.serving(Pool.GPU, lane):
                continue
            help_now = _help(fleet, willing, queue, before.get(name), now)
            if help_now is not None:
                found[name] = help_now
    return found


def _help(fleet: Fleet, willing: Sequence[Member], queue: QueueName, before: Help | None, now: float) -> Help | None:
    lane, priority = queue.lane, queue.priority
    load = fleet.loads.get(str(queue))
    # Who does not hold a model takes its jobs all the same, one after the other, and hands each back after a pause.
    able = [member for member in willing if load is None or load.models <= member.models]
    if not fleet.serving(Pool.GPU, lane):
        names = tuple(sorted(member.name for member in able or willing))
        return _changed(before, Help(names, f"no GPU worker of the {lane.value} lane is alive", now))
    willing = able
    # What was seen counts as much as what is expected: a GPU that hangs, or whose death nobody knows of yet, is
    # expected to be free at once. (The wait of the head of the line as a forecast: Ibrahim and Whitt 2009.)
    wait_s = max(expected_wait_s(fleet, Pool.GPU, lane, priority), load.oldest_s if load else 0.0)
    cpu_s = expected_wait_s(fleet, Pool.CPU, lane, priority) + (load.cpu_s if load else usual_s(lane, Pool.CPU))
    more_s = max(0.0, cpu_s - (load.gpu_s if load else 0.0))
    ranked = _ranked(willing, before)
    to_join = _workers_for(ranked, _better_off(fleet, load, lane, wait_s, JOIN * more_s))
    to_stay = _workers_for(ranked, _better_off(fleet, load, lane, wait_s, LEAVE * more_s))
    had = sum(member.name in before.workers for member in willing) if before else 0
    wanted = min(max(had, to_join), max(to_stay, to_join))
    if before is not None and wanted < had and now - before.changed_at < HOLD_S:
        wanted = had
    if not wanted:
        return None
    names = tuple(sorted(member.name for member in ranked[:wanted]))
    worth = wait_s + (load.gpu_s if load else 0.0) > cpu_s
    # Of the end on either device, since that is what is compared; while it stays on by the hysteresis, it says so.
    why = f"gpu wait {words(wait_s)} > cpu {words(cpu_s)}" if worth else f"gpu wait was longer, now {words(wait_s)}"
    return _changed(before, Help(names, why, now))


def _better_off(fleet: Fleet, load: Load | None, lane: Lane, wait_s: float, bearable_s: float) -> int:
    """How many jobs at the end of the queue wait longer for a GPU than is bearable."""
    if load is None or not load.jobs or wait_s <= bearable_s:
        return 0
    slots = fleet.slots(Pool.GPU, lane)
    return min(load.jobs, math.ceil((wait_s - bearable_s) * slots / max(load.gpu_s, 1e-6)))


def _ranked(willing: Sequence[Member], before: Help | None) -> list[Member]:
    """Who helps already stays; then whoever has least to do."""
    helping = before.workers if before else ()
    return sorted(willing, key=lambda one: (one.name not in helping, one.busy_s / max(1, one.slots), one.name))


def _workers_for(ranked: Sequence[Member], jobs: int) -> int:
    """How many of these, in their order, have slots for so many jobs."""
    count = 0
    while jobs > 0 and count < len(ranked):
        jobs -= ranked[count].slots
        count += 1
    return count


def _changed(before: Help | None, after: Help) -> Help:
    """The moment of the last change stays while the workers do."""
    if before is not None and before.workers == after.workers:
        return Help(after.workers, after.why, before.changed_at)
    return after


def words(seconds: float) -> str:
    """For people: "40 ms", "4.1 s", "41 s", "12 min"."""
    if math.isinf(seconds):
        return "no end"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 599.5 else f"{seconds / 60:.0f} min"
