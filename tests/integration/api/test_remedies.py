"""Jobs that wait too long go one priority up, those in the wrong pool's queue move; nothing is called lost by it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from api.leadership import Leadership
from fleet.contracts import DevicePolicy, Job, Lane, Pool, Priority
from fleet.queues import ALL_QUEUES
from fleet.routing import Help
from fleet.settings import Settings
from fleet.traffic import QueueTraffic, Traffic
from tests.support.consumer import Consumer
from tests.support.fleet_of_one import new_job
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.waiting import eventually

LOW, NORMAL, HIGH = (f"cpu.interactive.{name}" for name in ("low", "normal", "high"))


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    """Its rounds are ours to make. Jobs may wait 10 s as high, 100 s as normal, 1,000 s as low."""
    budgets = [10.0, 100.0, 1000.0]
    with front_door(settings, reconcile_every_s=600.0, ageing_interactive_s=budgets, ageing_bulk_s=budgets) as door:
        # The first round finds a Redis that it has never seen.
        eventually(door.core.broker.has_canary)
        door.core.dispatcher.close()
        door.announce(card())
        yield door


@pytest.fixture
def consumer(door: Door, settings: Settings) -> Iterator[Consumer]:
    with Consumer(settings, door.core.jobs, ALL_QUEUES) as opened:
        yield opened


def submit(door: Door, **changes: Any) -> Job:
    job = door.core.jobs.submit(new_job(model="text", **changes)).job
    door.core.broker.publish(job.id, job.publish_seq, job.queue)
    return job


def round_(door: Door) -> None:
    door.core.dispatcher.look()
    door.core.dispatcher.feed()


def waited(door: Door, seconds: float, *jobs: Job) -> None:
    door.core.database.run(
        "update job set queued_at = queued_at - make_interval(secs => %(s)s),"
        " created_at = created_at - make_interval(secs => %(s)s),"
        " published_at = published_at - make_interval(secs => %(s)s) where id = any(%(ids)s)",
        {"s": seconds, "ids": [job.id for job in jobs]},
    )


def did(door: Door, action: str) -> float:
    return door.core.measures.registry.get_sample_value("fleet_reconciler_actions_total", {"action": action}) or 0.0


def queues(door: Door, *jobs: Job) -> list[str]:
    return [door.core.jobs.get(job.id).queue for job in jobs]


def test_a_job_that_has_waited_its_time_goes_one_priority_up_and_says_so(door: Door, consumer: Consumer) -> None:
    old, young = submit(door, priority=Priority.LOW), submit(door, priority=Priority.LOW)
    waited(door, 1001, old)
    waited(door, 900, young)
    round_(door)
    assert queues(door, old, young) == [NORMAL, LOW]
    moved = door.core.jobs.get(old.id)
    assert moved.priority is Priority.LOW
    assert moved.route_reason.startswith("no GPU worker is alive; normal after 100")
    assert moved.revision == old.revision + 1
    assert [job.id for job in consumer.take(2)] == [old.id, young.id]
    # Its first message was left behind.
    assert consumer.take(1) == []
    assert consumer.refused == 1


def test_in_the_end_it_is_urgent(door: Door, consumer: Consumer) -> None:
    job = submit(door, priority=Priority.LOW)
    seen = []
    for seconds in (1001, 101, 11, 5000):
        waited(door, seconds, job)
        round_(door)
        seen += queues(door, job)
    assert seen == [NORMAL, HIGH, "cpu.interactive.urgent", "cpu.interactive.urgent"]
    (taken,) = consumer.take(1)
    assert (taken.id, taken.priority) == (job.id, Priority.LOW)


def test_a_flood_of_old_jobs_has_no_more_guests_above_than_there_are_slots(door: Door, consumer: Consumer) -> None:
    door.core.catalogue.announce_worker(worker_row(concurrency=3))
    flood = [submit(door, priority=Priority.LOW) for _ in range(40)]
    waited(door, 1050, *flood)
    for _ in range(3):
        round_(door)
    assert queues(door, *flood).count(NORMAL) == 3
    assert [job.id for job in consumer.take(2)] == [job.id for job in flood[:2]]
    round_(door)
    assert queues(door, *flood[2:]).count(NORMAL) == 3


def test_low_jobs_start_under_a_flood_of_higher_ones(settings: Settings) -> None:
    """Real rounds: budgets of some tenths of a second, and always more high jobs than are taken."""
    with front_door(settings, reconcile_every_s=0.2, ageing_interactive_s=[0.2, 0.2, 0.2]) as door:
        door.announce(card())
        low = [door.accepted(priority="low")["id"] for _ in range(3)]
        started: set[str] = set()
        with Consumer(settings, door.core.jobs, ALL_QUEUES) as consumer:

            def flood_and_take() -> bool:
                for _ in range(3):
                    door.accepted(priority="high")
                started.update(str(job.id) for job in consumer.take(2))
                return started.issuperset(low)

            eventually(flood_and_take)
        assert did(door, "aged") >= 3
        assert did(door, "message-lost") == 0


def test_when_a_gpu_lives_what_waits_for_a_cpu_and_prefers_a_gpu_goes_there(door: Door, consumer: Consumer) -> None:
    flexible = [submit(door, device_policy=DevicePolicy.PREFER_GPU) for _ in range(5)]
    bound = submit(door, device_policy=DevicePolicy.CPU_ONLY)
    unknown = submit(door, device_policy=DevicePolicy.PREFER_GPU, version=9)
    door.core.catalogue.announce_worker(worker_row("c", Pool.CPU))
    round_(door)
    assert queues(door, *flexible, bound, unknown) == [NORMAL] * 7
    door.core.catalogue.announce_worker(worker_row("g", Pool.GPU))
    round_(door)
    # No GPU holds that version.
    assert queues(door, *flexible, bound, unknown) == ["gpu.interactive.normal"] * 5 + [NORMAL] * 2
    moved = door.core.jobs.get(flexible[0].id)
    assert (moved.pool, moved.route_reason) == (Pool.GPU, "a GPU worker is alive again")
    round_(door)
    # The messages that were left behind are void, and each job starts once.
    assert len(consumer.take(10)) == 7
    assert consumer.refused == 5


def test_without_gpus_and_helpers_what_waits_for_a_gpu_goes_to_the_cpus(door: Door) -> None:
    job = submit(door, pool=Pool.GPU)
    only = submit(door, pool=Pool.GPU, device_policy=DevicePolicy.GPU_ONLY)
    door.core.catalogue.announce_worker(worker_row("c", Pool.CPU, helps=True))
    round_(door)
    assert queues(door, job) == ["gpu.interactive.normal"]
    assert door.core.traffic.now() is not None
    door.core.catalogue.announce_worker(worker_row("c", Pool.CPU, helps=False))
    round_(door)
    assert queues(door, job, only) == [NORMAL, "gpu-only.interactive.normal"]


def test_ageing_moving_and_helping_make_no_message_look_lost(door: Door, consumer: Consumer) -> None:
    """Five rounds of everything, each an old one to the record, while others wait: nothing may be sent again."""
    door.core.catalogue.announce_worker(worker_row("c", Pool.CPU, concurrency=4, helps=True))
    for turn in range(5):
        jobs = [submit(door, priority=priority) for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH)]
        waited(door, 5000, *jobs)
        if turn % 2:
            door.core.catalogue.announce_worker(worker_row("g", Pool.GPU))
        else:
            door.core.database.run("delete from worker where name = 'g'")
        round_(door)
        consumer.take(2)
        door.core.reconciler.tick()
    assert did(door, "message-lost") == 0
    while consumer.take(5):
        round_(door)
    assert door.core.database.run("select from job where state <> 'succeeded'") == []
    assert len(consumer.started) == 15


def test_the_look_tells_everybody_what_waits_and_who_helps(door: Door, settings: Settings) -> None:
    door.core.catalogue.announce_worker(worker_row("c", Pool.CPU, helps=True))
    for _ in range(3):
        submit(door, pool=Pool.GPU, tenant="a")
    submit(door, tenant="b", lane=Lane.BULK, window=0)
    door.core.dispatcher.look()
    found = door.core.dispatcher._board.read()
    assert found is not None
    seen, _ = found
    assert (seen.waiting(Lane.INTERACTIVE), seen.waiting(Lane.INTERACTIVE, "a")) == (3, 3)
    assert (seen.waiting(Lane.BULK), seen.waiting(Lane.BULK, "a")) == (1, 0)
    helped = seen.queues["gpu.interactive.normal"]
    assert (helped.published, helped.helpers) == (3, ["c"])
    assert helped.help_why == "no GPU worker of the interactive lane is alive"
    assert helped.wait_s is not None
    assert seen.queues["cpu.bulk.normal"].held == 1
    page = {
        sample.labels["queue"]: sample.value
        for metric in door.core.measures.registry.collect()
        for sample in metric.samples
        if sample.name == "fleet_queue_helpers"
    }
    assert page["gpu.interactive.normal"] == 1
    assert page["cpu.bulk.normal"] == 0


def test_a_new_leader_goes_on_with_the_helpers_and_windows_of_the_one_before(settings: Settings) -> None:
    other = Leadership(settings.database_dsn)
    assert other.held()
    with front_door(settings, reconcile_every_s=0.1) as door:
        helped, began = "gpu.bulk.low", 1000.0
        before = QueueTraffic(published=900, window=700, helpers=["c", "d"], help_changed_at=began)
        door.core.dispatcher._board.write(Traffic(at=datetime.now(UTC), queues={helped: before}))
        for name in ("c", "d"):
            door.core.catalogue.announce_worker(worker_row(name, Pool.CPU, helps=True))
        submit(door, lane=Lane.BULK, pool=Pool.GPU, priority=Priority.LOW)
        other.close()

        def told() -> Help | None:
            found = door.core.dispatcher._board.read()
            return found[0].help.get(helped) if found is not None and found[0].queues[helped].published == 1 else None

        eventually(told)
        assert door.core.dispatcher._feeder.windows.of(helped) > 8
        now = told()
        # The same workers, and since the same moment.
        assert now is not None
        assert (now.workers, now.changed_at) == (("c", "d"), began)


def test_an_aged_job_that_pauses_keeps_no_other_from_going_up(door: Door, consumer: Consumer) -> None:
    unserved = submit(door, priority=Priority.LOW)
    waited(door, 1001, unserved)
    round_(door)
    assert queues(door, unserved) == [NORMAL]
    (taken,) = consumer.take(1)
    # As by a worker that does not hold its model.
    door.core.database.run("update job set state = 'running', lease_until = 'infinity', finished_at = null")
    assert door.core.jobs.hand_back(taken, "model-not-here", 600.0) is not None
    other = submit(door, priority=Priority.LOW)
    waited(door, 1001, other)
    round_(door)
    assert queues(door, other) == [NORMAL]


def test_a_flood_has_no_more_guests_while_a_deep_backlog_is_counted_seldom(door: Door) -> None:
    flood = [submit(door, priority=Priority.LOW) for _ in range(9)]
    waited(door, 1050, *flood)
    round_(door)
    door.core.dispatcher._look._census._again_at = float("inf")
    for _ in range(3):
        round_(door)
    assert queues(door, *flood).count(NORMAL) == 1


def test_the_row_of_a_newer_leader_stops_nobody(door: Door) -> None:
    unknown = {"tpu.bulk.low": {"published": 3, "window": 90}, "cpu.bulk.low": {"published": 2, "colour": "red"}}
    for seen in ({"queues": unknown}, {"queues": unknown, "tenants": {"moon": {"a": 1}}}):
        door.core.dispatcher._help = None
        door.core.database.run(
            "insert into traffic (seen) values (%(seen)s) on conflict (only_row) do update set seen = excluded.seen",
            {"seen": Jsonb(seen)},
        )
        found = door.core.dispatcher._board.read()
        assert found is None or set(found[0].queues) == {"cpu.bulk.low"}
        submit(door)
        door.core.dispatcher.look()
        assert "cpu.interactive.normal" in door.core.database.run("select seen from traffic")[0]["seen"]["queues"]
