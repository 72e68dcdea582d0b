"""What the leader does for jobs that wait in the wrong place: those that are old go one priority up, and those that the
other pool would run sooner go there.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fleet.ageing import BudgetsByLane, guests
from fleet.contracts import DevicePolicy, Pool, Priority
from fleet.database import Database
from fleet.queues import QueueKind, QueueName
from fleet.routing import Fleet, expected_wait_s, words
from fleet.sql import statements
from fleet.traffic import Traffic

_SQL = statements("traffic")
#: Jobs of a queue that are moved with one look.
_BATCH = 1_000
#: A search that found nothing is repeated when so many times as long has passed as it took.
_PATIENCE = 20.0
#: What may run anywhere moves to a GPU that ends it in this part of the time.
_SOONER = 0.5


class Ageing:
    def __init__(self, database: Database, budgets: BudgetsByLane, did: Callable[[str, int], None]) -> None:
        """`did` is told what was done, and to how many jobs."""
        self._database = database
        self._budgets = budgets
        self._did = did

    def apply(self, fleet: Fleet, seen: Traffic) -> None:
        """Raises DependencyError."""
        for name, queue in seen.queues.items():
            here = QueueName.parse(name)
            borne = self._budgets[here.lane].before_leaving(here.priority)
            if not queue.published or not borne or queue.oldest_s < min(borne.values()):
                continue
            above = Priority(here.priority - 1)
            upper = str(QueueName(here.kind, here.lane, above))
            slots = sum(member.slots for member in fleet.serving(here.kind.pool, here.lane))
            there = seen.queues.get(upper)
            free = guests(slots) - (there.aged if there is not None else 0)
            if free > 0:
                self._raise(name, upper, above, borne, free)

    def _raise(self, queue: str, upper: str, above: Priority, borne: dict[Priority, float], limit: int) -> None:
        rows = self._database.run(
            _SQL["age_jobs"],
            {
                "queue": queue,
                "upper": upper,
                "rank": above.name.lower(),
                "asked": [int(asked) for asked in borne],
                "budgets": list(borne.values()),
                "limit": limit,
            },
        )
        self._did("aged", len(rows))


@dataclass(frozen=True)
class _Move:
    source: QueueName
    kind: QueueKind
    policies: tuple[DevicePolicy, ...]
    limit: int
    why: str


class Moves:
    def __init__(self, database: Database, did: Callable[[str, int], None]) -> None:
        self._database = database
        self._did = did
        #: (queue, policies) -> when to look there again.
        self._again_at: dict[tuple[QueueName, tuple[DevicePolicy, ...]], float] = {}

    def apply(self, fleet: Fleet, seen: Traffic) -> None:
        """Raises DependencyError."""
        for name, queue in seen.queues.items():
            if queue.jobs:
                for move in _moves(QueueName.parse(name), fleet):
                    self._move(move, fleet)

    def _move(self, move: _Move, fleet: Fleet) -> None:
        asked_at, key = time.monotonic(), (move.source, move.policies)
        if asked_at < self._again_at.get(key, asked_at):
            return
        target = QueueName(move.kind, move.source.lane, move.source.priority)
        members = fleet.serving(move.kind.pool, move.source.lane)
        rows = self._database.run(
            _SQL["move_jobs"],
            {
                "queue": str(move.source),
                "target": str(target),
                "pool": move.kind.pool.value,
                "policies": [policy.value for policy in move.policies],
                "models": sorted(frozenset[str]().union(*(member.models for member in members))),
                "limit": move.limit,
                "why": move.why,
            },
        )
        took_s = time.monotonic() - asked_at
        # A queue may hold many jobs of which none can move.
        self._again_at[key] = 0.0 if rows else asked_at + _PATIENCE * took_s
        self._did("moved", len(rows))


def _moves(source: QueueName, fleet: Fleet) -> Iterator[_Move]:
    lane = source.lane
    gpus, cpus = fleet.serving(Pool.GPU, lane), fleet.serving(Pool.CPU, lane)
    if source.kind is QueueKind.CPU and gpus:
        why = "a GPU worker is alive again"
        yield _Move(source, QueueKind.GPU, (DevicePolicy.PREFER_GPU,), _BATCH, why)
        yield from _sooner_elsewhere(source, fleet)
    elif source.kind is QueueKind.GPU and not gpus and cpus and not any(member.helps for member in cpus):
        why = f"no GPU worker of the {lane.value} lane is alive any more"
        yield _Move(source, QueueKind.CPU, (DevicePolicy.PREFER_GPU, DevicePolicy.ANY), _BATCH, why)


def _sooner_elsewhere(source: QueueName, fleet: Fleet) -> Iterator[_Move]:
    """What may run anywhere, so many that both would end at the same time."""
    load = fleet.loads.get(str(source))
    if load is None:
        return
    cpu_s, gpu_s = (
        expected_wait_s(fleet, pool, source.lane, source.priority) + load.seconds(pool) for pool in (Pool.CPU, Pool.GPU)
    )
    if gpu_s >= _SOONER * cpu_s:
        return
    slots = sum(member.slots for member in fleet.serving(Pool.CPU, source.lane))
    jobs = int((cpu_s - gpu_s) / 2 * slots / max(load.cpu_s, 1e-6)) if slots else _BATCH
    if jobs > 0:
        why = f"done in {words(gpu_s)} on a GPU, {words(cpu_s)} on a CPU"
        yield _Move(source, QueueKind.GPU, (DevicePolicy.ANY,), min(jobs, _BATCH), why)
