"""Our hand-built message is what Celery itself would publish, field by field."""

import base64
import json
from typing import Any

import redis
from celery import Celery

from fleet.broker import PRIORITY_STEPS, TASK_NAME, Broker, shadow_name
from fleet.contracts import Lane, Pool
from fleet.ids import new_id
from fleet.queues import queues
from fleet.settings import Settings

QUEUE = "cpu.bulk.normal"


def celery_app(url: str) -> Celery:
    app = Celery("producer", broker=url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        broker_transport_options={"priority_steps": PRIORITY_STEPS},
        task_default_priority=0,
    )
    return app


def popped(client: "redis.Redis") -> dict[str, Any]:
    text = client.rpop(QUEUE)
    assert isinstance(text, bytes)
    return dict(json.loads(text))


def test_ours_and_celerys_messages_differ_only_in_what_must_differ(settings: Settings) -> None:
    url = settings.redis_url.get_secret_value()
    job_id, shadow = new_id(), shadow_name("segmentation", "brain-extraction")
    app, broker = celery_app(url), Broker(url)

    @app.task(name=TASK_NAME)
    def run(job_id: str, seq: int) -> None:
        """Never runs: nobody consumes."""

    with redis.Redis.from_url(url) as client, app.connection_for_write() as connection:
        run.apply_async(
            (str(job_id), 3),
            task_id=f"{job_id}:3",
            queue=QUEUE,
            shadow=shadow,
            connection=connection,
        )
        theirs = popped(client)
        broker.publish(job_id, 3, QUEUE, shadow)
        ours = popped(client)
    broker.close()
    app.close()
    # Who sent it, and the tag of this one delivery.
    for message in (theirs, ours):
        assert message["headers"].pop("origin")
        assert len(message["properties"].pop("delivery_tag")) == 36
    for message in (theirs, ours):
        message["body"] = json.loads(base64.b64decode(message["body"]))
    # A result is never sent, so nobody is told where to.
    assert theirs["properties"].pop("reply_to")
    assert ours["properties"].pop("reply_to") == ""
    assert ours == theirs


def test_queues_are_consumed_urgent_first_and_lane_by_lane() -> None:
    names = queues([Pool.GPU, Pool.CPU], [Lane.INTERACTIVE, Lane.BULK])
    kinds = ["gpu-only.interactive", "gpu-only.bulk", "gpu.interactive", "gpu.bulk", "cpu.interactive", "cpu.bulk"]
    assert names[:6] == [f"{kind}.urgent" for kind in kinds]
    assert len(names) == len(set(names)) == 24


def test_depths_are_counted_by_queue(settings: Settings) -> None:
    broker = Broker(settings.redis_url.get_secret_value())
    for seq in (1, 2):
        broker.publish(new_id(), seq, QUEUE)
    assert broker.depths([QUEUE, "cpu.bulk.low"]) == {QUEUE: 2, "cpu.bulk.low": 0}
    broker.close()


def test_the_canary_lives_as_long_as_the_messages(settings: Settings) -> None:
    url = settings.redis_url.get_secret_value()
    broker = Broker(url)
    assert not broker.has_canary()
    broker.set_canary()
    assert broker.has_canary()
    with redis.Redis.from_url(url) as client:
        client.flushall()
    assert not broker.has_canary()
    broker.close()
