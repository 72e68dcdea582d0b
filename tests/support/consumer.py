"""A worker as the queues see it: takes messages in the order of a real one, claims, and finishes at once."""

import json
from collections.abc import Sequence
from uuid import UUID

import redis

from fleet.contracts import Job
from fleet.job_values import Ending
from fleet.jobs import JobStore
from fleet.queues import QueueName
from fleet.settings import Settings


class Consumer:
    """`started` are the jobs that it took, in their order; `refused` counts messages whose claim was refused."""

    def __init__(self, settings: Settings, jobs: JobStore, queues: Sequence[str], name: str = "w") -> None:
        self._redis = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
        self._jobs = jobs
        self.queues = list(queues)
        self._name = name
        self.started: list[Job] = []
        self.refused = 0

    def close(self) -> None:
        self._redis.close()

    def __enter__(self) -> "Consumer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, count: int = 1, *, finish: bool = True) -> list[Job]:
        """Up to so many jobs; fewer when the queues are empty."""
        taken: list[Job] = []
        while len(taken) < count and (heard := self._next()) is not None:
            queue, job_id, seq = heard
            claim = self._jobs.claim(job_id, self._name, 30.0, seq, kind=QueueName.parse(queue).kind)
            if claim is None:
                self.refused += 1
                continue
            taken.append(claim.job)
            if finish:
                self._jobs.finish(claim.job, result={}, artifacts=[], inputs=[], ending=Ending({}, None))
        self.started += taken
        return taken

    def wipe(self) -> None:
        """Redis forgets everything."""
        self._redis.flushall()

    def _next(self) -> tuple[str, UUID, int] | None:
        for queue in self.queues:
            text = self._redis.rpop(queue)
            if text is not None:
                job_id, _, seq = json.loads(str(text))["headers"]["id"].partition(":")
                return queue, UUID(job_id), int(seq)
        return None
