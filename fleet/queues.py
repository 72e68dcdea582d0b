"""The queues: `{kind}.{lane}.{priority}`, for instance `gpu.bulk.high`. Each is one plain list in Redis.

gpu-only  jobs that only a GPU may run        taken by GPU workers
gpu       jobs that a GPU should run          taken by GPU workers; by CPU workers too when it pays (`routing.py`)
cpu       jobs for the CPU                    taken by CPU workers
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from fleet.contracts import DevicePolicy, Lane, Pool, Priority


class QueueKind(StrEnum):
    GPU_ONLY = "gpu-only"
    GPU = "gpu"
    CPU = "cpu"

    @property
    def pool(self) -> Pool:
        """Whose workers take from it as their own."""
        return Pool.CPU if self is QueueKind.CPU else Pool.GPU

    @classmethod
    def of(cls, pool: Pool, device: DevicePolicy) -> "QueueKind":
        """Where a job goes that is meant for that pool, by its model's device policy."""
        if pool is Pool.CPU:
            return cls.CPU
        return cls.GPU_ONLY if device is DevicePolicy.GPU_ONLY else cls.GPU


#: What nobody else can run goes first among jobs of one priority.
_OWN = {Pool.GPU: (QueueKind.GPU_ONLY, QueueKind.GPU), Pool.CPU: (QueueKind.CPU,)}


@dataclass(frozen=True)
class QueueName:
    kind: QueueKind
    lane: Lane
    priority: Priority

    def __str__(self) -> str:
        return f"{self.kind.value}.{self.lane.value}.{self.priority.name.lower()}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Raises ValueError for what is no queue of ours."""
        kind, lane, priority = name.split(".")
        if priority.upper() not in Priority.__members__:
            raise ValueError(f"{priority!r} is no priority")
        return cls(QueueKind(kind), Lane(lane), Priority[priority.upper()])


def queue_name(pool: Pool, lane: Lane, priority: Priority, device: DevicePolicy = DevicePolicy.PREFER_GPU) -> str:
    """The queue of a job that is meant for that pool."""
    return str(QueueName(QueueKind.of(pool, device), lane, priority))


def queues(pools: Iterable[Pool], lanes: Iterable[Lane]) -> list[str]:
    """Those that workers of these pools and lanes take from as their own, in the order of consumption: urgent of every
    lane before high of any.
    """
    pairs = [(kind, lane) for pool in pools for kind in _OWN[pool] for lane in lanes]
    return [str(QueueName(kind, lane, priority)) for priority in Priority for kind, lane in pairs]


def in_order(names: Iterable[str], pool: Pool) -> list[str]:
    """The order in which a worker of that pool takes from these queues: by priority; then its own before those of the
    other pool; then interactive before bulk.
    """
    lanes, own = list(Lane), _OWN[pool]

    def rank(name: str) -> tuple[int, int, int]:
        queue = QueueName.parse(name)
        return queue.priority, own.index(queue.kind) if queue.kind in own else len(own), lanes.index(queue.lane)

    return sorted(names, key=rank)


ALL_QUEUES = tuple(queues(Pool, Lane))
