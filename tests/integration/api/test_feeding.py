"""What waits in the record is published by turns: shares, order and windows, with a consumer that claims for real."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from api.feeder import Feeder
from fleet.broker import Broker
from fleet.contracts import Job, Lane, Priority
from fleet.database import Database
from fleet.errors import DependencyError
from fleet.jobs import JobStore
from fleet.outbox import Outbox
from fleet.queues import ALL_QUEUES
from fleet.settings import Settings
from fleet.shares import LEAST
from fleet.sql import statements
from tests.support.consumer import Consumer
from tests.support.fleet_of_one import new_job

QUEUE = "cpu.interactive.normal"
WINDOW = LEAST[Lane.INTERACTIVE]
NO_BROKER = "redis://127.0.0.1:1/0"
#: Jobs that wait in the record, in one statement where thousands are needed.
_FILL = """
INSERT INTO job (id, tenant, task, model, version, lane, priority, pool, queue, max_attempts, execution_timeout_s,
                 deadline_s, published_at, publish_after)
SELECT gen_random_uuid(), %(tenant)s, 'echo', 'echo', 1, 'interactive', 2, 'cpu', %(queue)s, 3, 60, 86400, NULL,
       clock_timestamp() - interval '1 hour' + number * interval '1 millisecond'
  FROM generate_series(1, %(count)s) AS number
"""


@dataclass
class Scene:
    settings: Settings
    database: Database
    jobs: JobStore
    outbox: Outbox
    broker: Broker
    feeder: Feeder
    consumer: Consumer
    did: Counter[str] = field(default_factory=Counter)

    def submit(self, tenant: str = "a", window: int | None = WINDOW, **changes: Any) -> Job:
        """As the front door does."""
        submitted = self.jobs.submit(new_job(tenant=tenant, window=window, **changes))
        if not submitted.held:
            self.broker.publish(submitted.job.id, submitted.job.publish_seq, submitted.job.queue)
        return submitted.job

    def hold(self, tenant: str, count: int) -> None:
        self.database.run(_FILL, {"tenant": tenant, "count": count, "queue": QUEUE})

    def held(self) -> int:
        return len(self.database.run("select from job where state = 'queued' and published_at is null"))


@contextmanager
def scene_of(settings: Settings, weights: dict[str, float] | None = None) -> Iterator[Scene]:
    broker = Broker(settings.redis_url.get_secret_value())
    with Database(settings.database_dsn) as database:
        jobs, outbox = JobStore(database), Outbox(database)
        did: Counter[str] = Counter()
        feeder = Feeder(outbox, broker, weights=weights or {}, did=lambda what, count: did.update({what: count}))
        with Consumer(settings, jobs, [QUEUE]) as consumer:
            yield Scene(settings, database, jobs, outbox, broker, feeder, consumer, did)
    broker.close()


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    with scene_of(settings) as opened:
        yield opened


def test_a_tenant_has_one_window_of_messages_and_the_rest_waits_in_the_record(scene: Scene) -> None:
    for _ in range(WINDOW + 10):
        scene.submit()
    assert scene.broker.depths([QUEUE])[QUEUE] == WINDOW
    assert scene.held() == 10
    scene.feeder.round()
    assert scene.broker.depths([QUEUE])[QUEUE] == WINDOW


def test_another_tenant_has_a_window_of_its_own(scene: Scene) -> None:
    for _ in range(WINDOW + 10):
        scene.submit("a")
    scene.submit("b")
    assert scene.broker.depths([QUEUE])[QUEUE] == WINDOW + 1


def test_the_jobs_of_a_tenant_start_in_the_order_in_which_they_came(scene: Scene) -> None:
    jobs = [scene.submit() for _ in range(WINDOW + 20)]
    scene.consumer.take(WINDOW // 2)
    # There is room now, and yet this one is not published before those that wait.
    jobs.append(scene.submit())
    while len(scene.consumer.started) < len(jobs):
        scene.feeder.round()
        assert scene.consumer.take(10)
    assert [job.id for job in scene.consumer.started] == [job.id for job in jobs]
    assert scene.consumer.refused == 0


@pytest.mark.parametrize(("weights", "part"), [({}, 0.5), ({"b": 3.0}, 0.75)])
def test_whoever_comes_after_ten_thousand_jobs_has_his_share_at_once(
    settings: Settings, weights: dict[str, float], part: float
) -> None:
    with scene_of(settings, weights) as scene:
        scene.hold("a", 10_000)
        for _ in range(5):
            scene.feeder.round()
            scene.consumer.take(20)
        before, ahead = len(scene.consumer.started), scene.broker.depths([QUEUE])[QUEUE]
        assert ahead < 1_000
        scene.hold("b", 2_000)
        while len(scene.consumer.started) < before + 2 * ahead + 400:
            scene.feeder.round()
            scene.consumer.take(20)
        later = [job.tenant for job in scene.consumer.started[before:]]
        # What was in the queue before, and none of the thousands that wait in the record.
        assert later.index("b") <= ahead + 1
        settled = later[-400:]
        assert settled.count("b") / len(settled) == pytest.approx(part, abs=0.1)
        assert scene.did["published"] >= len(scene.consumer.started)


def test_the_window_grows_until_a_fast_consumer_is_kept_busy(scene: Scene) -> None:
    scene.hold("a", 6_000)
    found: list[int] = []
    for _ in range(12):
        scene.feeder.round()
        # What the workers could take until the next round.
        found.append(len(scene.consumer.take(300)))
    assert found[0] == WINDOW
    # Windows go by the clock: a machine that stands still for a moment makes one of them too small.
    assert found[-6:].count(300) >= 5
    assert scene.feeder.windows.of(QUEUE) > 300


def test_the_window_is_small_again_when_nothing_waits(scene: Scene) -> None:
    scene.feeder.windows.adopt(QUEUE, 4_000)
    for _ in range(60):
        scene.feeder.round()
    assert scene.feeder.windows.of(QUEUE) == WINDOW


@pytest.mark.parametrize("end", ["its worker was lost", "its worker drained"])
def test_a_job_that_lost_its_turn_waits_for_no_window(scene: Scene, end: str) -> None:
    lost = scene.submit()
    claim = scene.jobs.claim(lost.id, "w", 0.0 if end == "its worker was lost" else 30.0, seq=1)
    assert claim is not None
    for _ in range(WINDOW + 5):
        scene.submit()
    if end == "its worker was lost":
        scene.outbox.lapse_leases()
    else:
        assert scene.jobs.hand_back(claim.job, "drained")
    scene.feeder.round()
    (first,) = scene.consumer.take(1)
    assert first.id == lost.id


def test_after_a_flush_with_thousands_held_each_is_published_once_and_in_order(scene: Scene) -> None:
    scene.hold("a", 5_000)
    scene.feeder.round()
    started = [job.id for job in scene.consumer.take(10)]
    scene.database.run("update job set published_at = published_at - interval '1 minute'")
    scene.consumer.wipe()
    assert scene.outbox.forget_publications(QUEUE, scene.outbox.now(), 10_000) == WINDOW - 10
    while len(scene.consumer.started) < 400:
        scene.feeder.round()
        assert scene.consumer.take(100)
    assert scene.consumer.refused == 0
    assert scene.broker.depths([QUEUE])[QUEUE] + scene.held() == 5_000 - len(scene.consumer.started)
    rows = scene.database.run("select id from job order by publish_after")
    in_order = [row["id"] for row in rows]
    assert [job.id for job in scene.consumer.started] == in_order[: len(scene.consumer.started)]
    assert started == in_order[:10]


def test_two_leaders_for_a_moment_publish_nothing_twice(scene: Scene) -> None:
    other = Feeder(scene.outbox, scene.broker, weights={}, did=lambda what, count: None)
    scene.hold("a", 300)
    seen: set[UUID] = set()
    while len(seen) < 300:
        scene.feeder.round()
        other.round()
        seen |= {job.id for job in scene.consumer.take(50)}
    assert scene.consumer.refused == 0
    assert len(scene.consumer.started) == 300


def test_without_the_broker_nothing_is_marked_as_published(settings: Settings) -> None:
    with scene_of(settings) as scene:
        scene.hold("a", 10)
        away = Broker(NO_BROKER)
        with pytest.raises(DependencyError):
            Feeder(scene.outbox, away, weights={}, did=lambda what, count: None).round()
        away.close()
        assert scene.held() == 10
        assert {row["publish_seq"] for row in scene.database.run("select publish_seq from job")} == {1}


def test_priorities_are_queues_of_their_own_and_do_not_share_a_window(scene: Scene) -> None:
    for _ in range(WINDOW):
        scene.submit()
    urgent = scene.submit(priority=Priority.URGENT)
    assert scene.broker.depths([urgent.queue])[urgent.queue] == 1


def test_many_tenants_with_held_jobs_are_found_without_counting_them(scene: Scene) -> None:
    for tenant in range(30):
        scene.hold(f"tenant-{tenant}", 20)
    assert set(scene.outbox.due()) == {(QUEUE, f"tenant-{tenant}") for tenant in range(30)}
    scene.feeder.round()
    assert {job.tenant for job in scene.consumer.take(30)} == {f"tenant-{tenant}" for tenant in range(30)}


def test_a_queue_of_a_newer_version_holds_up_no_other(scene: Scene) -> None:
    scene.hold("a", 2)
    scene.database.run(
        "update job set queue = 'tpu.interactive.normal', tenant = 'b' where id = (select min(id::text)::uuid from job)"
    )
    scene.feeder.round()
    assert len(scene.consumer.take(2)) == 1
    assert scene.held() == 1


def test_what_waits_is_counted_in_one_pass_where_one_queue_holds_nearly_all(scene: Scene) -> None:
    scene.hold("a", 20_000)
    scene.database.run("analyze job")
    rows = scene.database.run("explain " + statements("traffic")["census"], {"queues": list(ALL_QUEUES)})
    plan = [row["QUERY PLAN"] for row in rows]
    assert not [line for line in plan if "Nested Loop" in line], plan
