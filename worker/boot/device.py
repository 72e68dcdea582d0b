"""Boot step 1: prove the device, then put the process together. A broken promise stops the worker here."""

import sys
from typing import Any

from celery import bootsteps

from fleet.contracts import Pool
from fleet.errors import FleetError
from fleet.logs import get_logger
from fleet.settings import Settings
from worker.celery_settings import celery_queues
from worker.device import prove_device
from worker.memory.trim import keep_freed
from worker.os_priority import step_back, wanted_nice
from worker.process import assemble

#: What glibc keeps at most by itself, after the first large block: pictures are worth it from the first one on.
_KEPT_BYTES = 64 * 1024**2
log = get_logger(__name__)


class DeviceStep(bootsteps.StartStopStep):
    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        settings = Settings()
        keep_freed(_KEPT_BYTES)
        try:
            device = prove_device(settings, worker.concurrency)
            worker.app.process = assemble(settings, device)
        except FleetError as error:
            log.critical("worker cannot start", code=error.code, reason=error.message)
            sys.exit(2)
        if device.pool is Pool.GPU and settings.declared_pool is None and not worker.app.amqp.queues._consume_from:
            # Nobody named queues, and the device turned out to be a GPU.
            worker.app.amqp.queues = worker.app.amqp.Queues(celery_queues(device.pool, settings))
        # Before the first session: the threads of a session take after the one that makes it.
        nice = step_back(wanted_nice(settings, device.pool))
        log.info("device proven", device=device.name, pool=device.pool.value, provider=device.providers.best, nice=nice)

    def stop(self, worker: Any) -> None:
        process = worker.app.process
        if process is not None:
            worker.app.process = None
            process.close()
