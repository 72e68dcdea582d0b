"""Consumer step: a CPU worker joins the queues of the GPUs that it is asked to help out in, and leaves them again.

Celery starts it anew after every reconnect; what it had joined is consumed again by then, since Celery remembers it.
When the worker drains, Celery leaves all queues.

A message that was on its way when its queue was left goes back to that queue, as the last one (kombu does so with
what nobody consumes). It is rarely overtaken by others: if others had waited, one of them would have come instead.
"""

import threading
from typing import Any

from celery import bootsteps
from kombu.entity import Queue

from fleet.logs import get_logger
from worker.helping import LOOK_S, Helping

log = get_logger(__name__)


class HelpStep(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.tasks:Tasks",)
    #: Seconds between two looks at what is asked for, and between two looks of the event loop at the answer.
    period_s = LOOK_S

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._ended = threading.Event()
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        helping = consumer.app.process.helping
        if not helping.willing:
            return
        self._ended = threading.Event()
        looks = (self._ended, self.period_s)
        threading.Thread(target=helping.keep_looking, args=looks, name="helping", daemon=True).start()
        # More often than it is read: this costs nothing, and a job waits for it.
        self._timer = consumer.timer.call_repeatedly(self.period_s / 3, follow, (consumer, helping))

    def stop(self, consumer: Any) -> None:
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def follow(consumer: Any, helping: Helping) -> None:
    """Takes from what is asked for, and from nothing else besides its own. In the event loop; waits for nothing."""
    if consumer.task_consumer is None:
        return
    asked, joined = helping.asked, helping.joined
    for queue in asked:
        if not consumer.task_consumer.consuming_from(queue):
            _join(consumer, queue)
            helping.note_joined(queue)
    left = [queue for queue in joined if queue not in asked]
    for queue in left:
        consumer.cancel_task_queue(queue)
        helping.note_left(queue)
    if left or helping.joined != joined:
        log.info("helping out", queues=helping.joined)
        consumer.app.announcer.tell_soon()


def _join(consumer: Any, queue: str) -> None:
    if queue not in consumer.app.amqp.queues:
        # To declare it would ask Redis, and a list in Redis is there once something is in it.
        consumer.app.amqp.queues.add(Queue(queue, routing_key=queue, no_declare=True))
    consumer.add_task_queue(queue)
