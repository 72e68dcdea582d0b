"""The order in which a worker asks its queues, after whatever it joined and left."""

import random

from fleet.contracts import Lane, Pool
from fleet.queues import ALL_QUEUES, in_order, queues
from worker.queue_order import RoutedOrder, routed

HELPED = ["gpu.bulk.urgent", "gpu.bulk.low", "gpu.interactive.high"]


def test_own_queues_are_asked_in_the_order_of_their_declaration() -> None:
    for pool in Pool:
        assert routed(queues([pool], Lane)) == queues([pool], Lane)


def test_a_cpu_worker_asks_by_priority_and_its_own_first() -> None:
    names = queues([Pool.CPU], Lane) + HELPED
    asked = routed(names)
    assert asked == in_order(names, Pool.CPU)
    order = ["cpu.bulk.urgent", "gpu.bulk.urgent", "cpu.interactive.high", "gpu.interactive.high", "cpu.bulk.low"]
    assert sorted(order, key=asked.index) == order


def test_a_gpu_worker_asks_first_for_what_nobody_else_can_run() -> None:
    asked = routed(queues([Pool.GPU], [Lane.BULK]))
    assert asked[:4] == ["gpu-only.bulk.urgent", "gpu.bulk.urgent", "gpu-only.bulk.high", "gpu.bulk.high"]


def test_the_order_does_not_depend_on_that_of_joining() -> None:
    names = queues([Pool.CPU], Lane) + HELPED
    shuffled = random.Random(4).sample(names, len(names))
    assert routed(shuffled) == routed(names)


def test_a_cycle_keeps_the_order_when_one_is_joined_left_or_used() -> None:
    cycle = RoutedOrder()
    cycle.update(["cpu.bulk.low"])
    cycle.update(["cpu.bulk.low", "gpu.bulk.urgent"])
    cycle.rotate("gpu.bulk.urgent")
    assert cycle.consume(2) == ["gpu.bulk.urgent", "cpu.bulk.low"]
    cycle.update(["cpu.bulk.low"])
    assert cycle.consume(1) == ["cpu.bulk.low"]


def test_queues_that_are_not_for_jobs_come_last() -> None:
    assert routed(["5f.reply.celery.pidbox", "cpu.bulk.low"]) == ["cpu.bulk.low", "5f.reply.celery.pidbox"]
    assert routed(["celery", "a.b.c"]) == ["celery", "a.b.c"]
    assert routed([]) == []


def test_no_queue_is_lost_on_the_way() -> None:
    assert sorted(routed(ALL_QUEUES)) == sorted(ALL_QUEUES)
