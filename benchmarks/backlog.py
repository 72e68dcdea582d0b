"""A hundred thousand jobs that wait: what a round of the reconciler costs, and that it publishes nothing twice.

    make bench-backlog            (ARGS="--jobs 100000")

Real PostgreSQL and Redis, and the api's own reconciler, one round after the other: while nothing happens, while jobs
are taken and one message in a hundred gets lost, and after Redis was wiped. Each ends with a look at the queues. Ends
with 1 when a job has no message, or more than one.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis

from cli.stack import Stack
from fleet.broker import CANARY, message
from fleet.contracts import Lane, Pool
from fleet.migrate import migrate
from fleet.queues import queues
from fleet.settings import Settings
from tests.support.front_door import Door, front_door

QUEUES = [name for name in queues([Pool.CPU], Lane) if not name.endswith("urgent")]
FILL = """
INSERT INTO job (id, tenant, task, model, version, lane, priority, pool, queue, max_attempts, execution_timeout_s,
                 deadline, deadline_s, created_at, published_at)
SELECT gen_random_uuid(), 'default', 'echo', 'echo', 1, split_part(queue, '.', 2), 2, 'cpu', queue, 3, 60,
       clock_timestamp() + interval '1 day', 86400, at, at
  FROM (SELECT (%(queues)s::text[])[1 + n %% cardinality(%(queues)s::text[])] AS queue,
               clock_timestamp() - interval '6 hours' + n * interval '200 milliseconds' AS at
          FROM generate_series(1, %(jobs)s) AS n) AS drawn
RETURNING id, queue"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=100_000)
    options.add_argument("--taken", type=int, default=2_000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), api=False, workers=0) as stack:
        settings = stack.settings()
        migrate(settings.database_dsn)
        with backlog(settings, chosen.jobs) as seen:
            print(f"{chosen.jobs} jobs wait{'':18}{'p50 ms':>10}{'max ms':>10}{'published':>12}", flush=True)
            seen.rounds("nothing happens", 30)
            seen.take(chosen.taken)
            seen.rounds("after some were taken, 1 % lost", 10)
            seen.client.flushall()
            seen.rounds("after Redis was wiped", 3 + chosen.jobs // 10_000)
            began = time.perf_counter()
            seen.door.http.get("/metrics").raise_for_status()
            print(f"\nGET /metrics: {1000 * (time.perf_counter() - began):.0f} ms")


class Backlog:
    def __init__(self, door: Door, client: "redis.Redis", waiting: set[str]) -> None:
        self.door = door
        self.client = client
        self.waiting = waiting

    def rounds(self, what: str, count: int) -> None:
        """So many rounds of the reconciler, without its pauses."""
        before, spent = self.published(), []
        for _ in range(count):
            began = time.perf_counter()
            self.door.core.reconciler.tick()
            spent.append(1000 * (time.perf_counter() - began))
        published = self.published() - before
        print(f"{what:34}{statistics.median(spent):>10.1f}{max(spent):>10.1f}{published:>12}", flush=True)
        messages = self.messages()
        if messages != Counter(self.waiting):
            twice = sum(count > 1 for count in messages.values())
            raise SystemExit(f"{len(self.waiting - messages.keys())} jobs have no message and {twice} more than one")

    def take(self, count: int) -> None:
        """As workers do, in the order of the queues; every hundredth message gets lost on the way."""
        jobs = self.door.core.jobs
        for number in range(count):
            text = self.client.rpop(QUEUES[number % len(QUEUES)])
            job_id, _, seq = json.loads(str(text))["headers"]["id"].partition(":")
            # None of the last: a message that was overtaken only just now may be on its way.
            if number % 100 != 0:
                assert jobs.claim(self.door.id(job_id), "bench", 3600.0, int(seq))
                self.waiting.discard(job_id)

    def published(self) -> int:
        actions = self.door.core.measures.registry.get_sample_value
        return int(actions("fleet_reconciler_actions_total", {"action": "published"}) or 0)

    def messages(self) -> Counter[str]:
        """Job id -> how many messages of it lie in the queues."""
        texts = [text for name in QUEUES for text in self.client.lrange(name, 0, -1)]
        return Counter(json.loads(text)["headers"]["id"].partition(":")[0] for text in texts)


@contextmanager
def backlog(settings: Settings, jobs: int) -> Iterator[Backlog]:
    """Jobs that were published in order, and their messages."""
    with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
        made = connection.execute(FILL.encode(), {"queues": QUEUES, "jobs": jobs}).fetchall()
        connection.execute("ANALYZE")
    with redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True) as client:
        with client.pipeline(transaction=False) as pipeline:
            for job_id, queue in made:
                pipeline.lpush(queue, message(job_id, 1, queue))
            pipeline.set(CANARY, "1")
            pipeline.execute()
        # Its own rounds are far apart: the ones that count are ours.
        with front_door(settings, reconcile_every_s=600.0) as door:
            yield Backlog(door, client, {str(job_id) for job_id, _ in made})


if __name__ == "__main__":
    main()
