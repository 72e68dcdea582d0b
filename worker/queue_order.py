"""In which order a worker asks its queues; kombu makes one of these per channel (`queue_order_strategy`)."""

from collections.abc import Iterable

from kombu.utils.scheduling import priority_cycle

from fleet.contracts import Pool
from fleet.queues import QueueKind, QueueName, in_order


class RoutedOrder(priority_cycle):
    """The order of `fleet.queues.in_order`, whenever and in whatever order the queues were joined."""

    def update(self, it: Iterable[str]) -> None:
        self.items[:] = routed(it)


def routed(names: Iterable[str]) -> list[str]:
    """What is no queue of jobs, such as Celery's queues for answers, comes last.

    Whose worker it is shows by its queues: when a channel is made, the device need not be proven yet. A CPU worker
    never takes from a queue that only GPUs may, and has one of the CPU's unless all its queues are of one kind.
    """
    kinds = {name: _kind(name) for name in names}
    ours = [name for name, kind in kinds.items() if kind is not None]
    others = [name for name, kind in kinds.items() if kind is None]
    on_gpu = QueueKind.GPU_ONLY in kinds.values() or QueueKind.CPU not in kinds.values()
    return in_order(ours, Pool.GPU if on_gpu else Pool.CPU) + others


def _kind(name: str) -> QueueKind | None:
    try:
        return QueueName.parse(name).kind
    except ValueError:
        return None
