"""Celery's settings for Fleet, each with its reason. Leases recover lost work, not Celery."""

from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.entity import Queue

from fleet.broker import PRIORITY_STEPS
from fleet.contracts import Pool
from fleet.cpus import usable_cpus
from fleet.queues import queues
from fleet.settings import Settings
from worker.concurrency import default_concurrency

#: Longer than any run: redelivery after it would only start work that a lease already guards.
_VISIBILITY_S = 6 * 3600


def celery_queues(pool: Pool, settings: Settings) -> list[Queue]:
    """In the order in which they are asked."""
    return [Queue(name, routing_key=name) for name in queues([pool], settings.worker_lanes)]


def celery_settings(settings: Settings) -> dict[str, Any]:
    """What `celery -A worker.app` works with.

    The queues are those of the declared pool, else the CPU's; the device step changes them when it proves a GPU.
    """
    task_queues = celery_queues(settings.declared_pool or Pool.CPU, settings)
    return {
        "broker_url": settings.redis_url.get_secret_value(),
        "broker_transport_options": {
            "priority_steps": PRIORITY_STEPS,
            # By priority, whichever queues are joined later (see `boot/help.py`).
            "queue_order_strategy": "worker.queue_order:RoutedOrder",
            "visibility_timeout": _VISIBILITY_S,
            # Without it Redis costs a third, and a crash is recovered by the lease all the same.
            "ack_emulation": settings.broker_ack_emulation,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            # Together these find a half-open link within ten seconds: a command is tried three times, and Redis
            # answers within one second even when it has nothing to say.
            "socket_timeout": 3,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 5,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": None,
        # None is looked for once (see `boot/engine.py`), and not by each thread anew.
        "result_backend_thread_safe": True,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        # Late acks with a prefetch of one: what waits stays in Redis, where the more urgent overtakes it.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_soft_shutdown_timeout": 0,
        "worker_pool": "threads",
        "worker_concurrency": _concurrency(settings),
        "task_create_missing_queues": False,
        "task_queues": task_queues,
        "task_default_queue": task_queues[-1].name,
        # They cost more than the message itself. Flower turns them on while it runs (`--enable_events`).
        "worker_send_task_events": settings.worker_task_events,
        "task_send_sent_event": False,
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": True,
        "worker_proc_alive_timeout": 60,
    }


def _concurrency(settings: Settings) -> int:
    pool = settings.declared_pool or Pool.CPU
    return settings.worker_concurrency or default_concurrency(settings.worker_lanes, pool, usable_cpus())


class PromptConnection(Connection):
    """Back within two seconds after Redis is. Kombu's pauses grow to thirty, and no setting of Celery changes that."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        pauses = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2}
        return super().ensure_connection(*args, **{**pauses, **kwargs})


class PromptAmqp(AMQP):
    """For `Celery(amqp=...)`."""

    Connection = PromptConnection
