"""The doorbell: publishes job ids to Celery's queues on Redis, and tells waiters when a job has ended.

Messages are Celery's own (protocol 2), built here, since one LPUSH costs a seventh of `apply_async`; a test holds
them equal to what Celery publishes. Redis may forget everything at any moment: the record does not (`outbox.py`).
"""

import base64
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fleet.breaker import Breaker
from fleet.contracts import JobState
from fleet.errors import DependencyError

TASK_NAME = "fleet.run"
_REST_S = 2.0
#: Channel on which the end of every job is told: "<job id> <state> <news>" (see `fleet/job_news.py`).
ENDED_CHANNEL = "fleet:ended"
#: Lives in Redis as long as Redis remembers anything. Its absence means that the messages are gone, too.
CANARY = "fleet:canary"
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

#: Celery's Redis transport, for producers and consumers alike: one plain list per queue.
PRIORITY_STEPS = [0]


def shadow_name(task: str, model: str) -> str:
    """The name under which Flower shows a message, for instance `segmentation[brain-extraction]`."""
    return f"{task}[{model}]"


def message(job_id: UUID, seq: int, queue: str, shadow: str | None = None) -> str:
    """A Celery message that asks for `fleet.run(job_id, seq)`; `shadow` is the name that Flower shows."""
    task_id = f"{job_id}:{seq}"
    arguments = [str(job_id), seq]
    body = base64.b64encode(json.dumps([arguments, {}, _EMBED]).encode()).decode()
    headers: dict[str, object] = {
        "lang": "py",
        "task": TASK_NAME,
        "id": task_id,
        "shadow": shadow,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": repr(tuple(arguments)),
        "kwargsrepr": "{}",
        "origin": "fleet",
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    properties = {
        "correlation_id": task_id,
        "reply_to": "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )


class Broker:
    """Redis as the api, the workers and the reconciler use it. Thread-safe; fails fast.

    While Redis does not answer, `publish` and `tell_ended` fail at once for two seconds: what they say is a hint, and
    nobody should be held up for it. The reconciler always asks.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0) -> None:
        self._breaker = Breaker(_REST_S)
        self._redis: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # One repeat for a connection that Redis closed meanwhile; a Redis that hangs would only hang again.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            health_check_interval=30,
        )

    def close(self) -> None:
        self._redis.close()

    @property
    def resting(self) -> bool:
        """Whether Redis did not answer a moment ago, so that a job is better left to the reconciler."""
        return self._breaker.resting

    def publish(self, job_id: UUID, seq: int, queue: str, shadow: str | None = None) -> None:
        """Raises DependencyError `broker-unavailable`, at once while Redis rests."""
        self._check_rest()
        with self._asked():
            self._redis.lpush(queue, message(job_id, seq, queue, shadow))

    def publish_all(self, messages: Sequence[tuple[str, str]], first: Sequence[tuple[str, str]] = ()) -> None:
        """(queue, message) pairs in one round trip; those of `first` go before all that wait."""
        with self._asked():
            pipeline = self._redis.pipeline(transaction=False)
            for queue, text in messages:
                pipeline.lpush(queue, text)
            # Consumers take from this end.
            for queue, text in first:
                pipeline.rpush(queue, text)
            pipeline.execute()

    def depths(self, names: Sequence[str]) -> dict[str, int]:
        """Messages that wait in each queue."""
        with self._asked():
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.llen(name)
            return dict(zip(names, pipeline.execute(), strict=True))

    def next_messages(self, names: Sequence[str]) -> dict[str, bytes]:
        """The message that is taken next from each queue, without the empty queues. It stays where it is."""
        with self._asked():
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.lindex(name, -1)
            found = zip(names, pipeline.execute(), strict=True)
            return {name: message for name, message in found if message is not None}

    def tell_ended(self, job_id: UUID, state: JobState, news: bytes = b"") -> None:
        """Wakes whoever waits for the job. Lossy: waiters also look at the record from time to time."""
        self._check_rest()
        with self._asked():
            self._redis.publish(ENDED_CHANNEL, f"{job_id} {state.value}".encode() + (b" " + news if news else b""))

    def has_canary(self) -> bool:
        with self._asked():
            return bool(self._redis.exists(CANARY))

    def set_canary(self) -> None:
        with self._asked():
            self._redis.set(CANARY, "1")

    def check(self) -> None:
        with self._asked():
            self._redis.ping()

    def _check_rest(self) -> None:
        if not self._breaker.may_try():
            raise DependencyError("Redis did not answer a moment ago", code="broker-unavailable")

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            self._breaker.failed()
            raise DependencyError(
                f"Redis cannot be reached: {type(error).__name__}", code="broker-unavailable"
            ) from error
        self._breaker.answered()
