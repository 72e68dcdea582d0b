"""Boot step 5: the watchdog. Started last before the consumer, whose loop and intake it watches."""

from typing import Any

import psycopg
from celery import bootsteps

from fleet.broker import Broker
from fleet.errors import DependencyError
from worker.boot.announce import AnnounceStep
from worker.boot.intake import HAND_BACK_S
from worker.process import Process
from worker.pulse import BEAT_S
from worker.watchdog import Limits, Watchdog, Watched

#: What the steps around the drain may take: the consumer's end, the announcer's, the pool's.
_END_S = 15.0


class WatchStep(bootsteps.StartStopStep):
    requires = (AnnounceStep,)

    def start(self, worker: Any) -> None:
        process: Process = worker.app.process
        settings = process.settings
        watchdog = Watchdog(
            _watched(worker, process),
            Limits(settings.worker_stuck_s, drain_s=settings.worker_drain_s + HAND_BACK_S + _END_S),
            process.pulse,
        )
        worker.app.watchdog = watchdog
        # An entry from before the consumer's start outlives its reconnects.
        worker.hub.call_repeatedly(min(1.0, settings.worker_stuck_s / 8), watchdog.turned)
        watchdog.start()

    def close(self, worker: Any) -> None:
        """Called before anything is stopped. The thread stays: it may have to bring the end about."""
        if worker.app.watchdog is not None:
            worker.app.watchdog.drain()


def _watched(worker: Any, process: Process) -> Watched:
    settings = process.settings
    broker = Broker(settings.redis_url.get_secret_value())

    def ask_record() -> None:
        try:
            with psycopg.connect(settings.database_dsn, connect_timeout=2, autocommit=True) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error as error:
            raise DependencyError("PostgreSQL does not answer", code="database-unavailable") from error

    return Watched(
        queues=lambda: [
            name
            for name in list(worker.app.amqp.queues.consume_from)
            # Two looks of the watchdog must not see the message of a queue that was left and joined between them.
            if not process.helping.joined_within(name, BEAT_S)
        ],
        next_messages=broker.next_messages,
        busy=lambda: process.permits.inside,
        slots=process.device.concurrency,
        leases_silent_s=lambda: process.leases.silent_s,
        ask_record=ask_record,
    )
