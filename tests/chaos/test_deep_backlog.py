"""A backlog of many thousands: what waits is not lost, and is not published again for that."""

import json
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest
import redis

from fleet.broker import CANARY, message
from fleet.contracts import Lane, Pool, Priority
from fleet.queues import queue_name
from fleet.settings import Settings
from tests.support.consumer import Consumer
from tests.support.front_door import Door, front_door

BACKLOG = 25_000
ROUNDS = 5
QUEUE = queue_name(Pool.CPU, Lane.BULK, Priority.NORMAL)
_FILL = """
INSERT INTO job (id, tenant, task, model, version, lane, priority, pool, queue, max_attempts, execution_timeout_s,
                 created_at, published_at)
SELECT gen_random_uuid(), 'default', 'echo', 'echo', 1, 'bulk', 2, 'cpu', %(queue)s, 3, 60,
       clock_timestamp() - interval '1 hour' + number * interval '100 milliseconds',
       clock_timestamp() - interval '1 hour' + number * interval '100 milliseconds'
  FROM generate_series(1, %(count)s) AS number
RETURNING id
"""


class Backlog:
    """Jobs that were published in order, and their messages. `tick` is one round of the reconciler."""

    def __init__(self, door: Door, client: "redis.Redis", ids: list[str]) -> None:
        self.door = door
        self.client = client
        self.ids = ids

    def tick(self, rounds: int = ROUNDS) -> None:
        for _ in range(rounds):
            self.door.core.reconciler.tick()

    @property
    def published(self) -> int:
        measured = self.door.core.measures.registry
        return int(measured.get_sample_value("fleet_reconciler_actions_total", {"action": "published"}) or 0)

    def messages(self) -> Counter[str]:
        """Job id -> how many messages of it lie in the queue."""
        texts = self.client.lrange(QUEUE, 0, -1)
        return Counter(json.loads(text)["headers"]["id"].partition(":")[0] for text in texts)


@pytest.fixture
def backlog(settings: Settings) -> Iterator[Backlog]:
    with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
        cursor = connection.execute(_FILL.encode(), {"queue": QUEUE, "count": BACKLOG})
        ids = [job_id for (job_id,) in cursor.fetchall()]
        connection.execute("analyze job")
    with redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True) as client:
        with client.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.lpush(QUEUE, message(job_id, 1, QUEUE))
            pipeline.set(CANARY, "1")
            pipeline.execute()
        # After a first round at its start, its own rounds are minutes apart: these are ours to count.
        with front_door(settings, reconcile_every_s=600.0) as door:
            yield Backlog(door, client, [str(job_id) for job_id in ids])


def test_a_backlog_of_thousands_is_not_published_again(backlog: Backlog) -> None:
    before = backlog.published
    backlog.tick()
    assert backlog.published == before
    assert set(backlog.messages().values()) == {1}


def test_of_a_backlog_only_the_lost_messages_are_published_again(backlog: Backlog) -> None:
    lost, taken = backlog.ids[:3], backlog.ids[3:1003]
    backlog.client.rpop(QUEUE, len(lost) + len(taken))
    assert backlog.client.llen(QUEUE) == BACKLOG - 1003
    with psycopg.connect(backlog.door.core.settings.database_dsn, autocommit=True) as connection:
        connection.execute(
            "update job set state = 'succeeded', finished_at = clock_timestamp() where id = any(%s::uuid[])", [taken]
        )
    before = backlog.published
    backlog.tick()
    assert backlog.published == before + len(lost)
    assert backlog.messages() == Counter(set(backlog.ids) - set(taken))


def test_after_a_flush_every_job_of_a_backlog_is_published_once_and_no_more(
    backlog: Backlog, settings: Settings
) -> None:
    """Never more than workers need: what they have not taken yet waits in the record, each job in its place."""
    before = backlog.published
    backlog.client.flushall()
    backlog.tick(3)
    assert 0 < backlog.published - before == backlog.client.llen(QUEUE) < BACKLOG / 10
    with Consumer(settings, backlog.door.core.jobs, [QUEUE]) as consumer:
        while len(consumer.started) < 1_000:
            backlog.tick(1)
            assert consumer.take(250)
        assert [str(job.id) for job in consumer.started] == backlog.ids[: len(consumer.started)]
        assert consumer.refused == 0
    assert set(backlog.messages().values()) == {1}
