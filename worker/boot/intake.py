"""Boot step 3: keep leases; at the end, drain. Stopped after the consumer, so that nothing new comes in."""

from typing import Any

from celery import bootsteps

from fleet.logs import get_logger
from worker.boot.engine import EngineStep
from worker.stop import StopReason

log = get_logger(__name__)
#: What a run needs to notice that it is to stop, hand its lease back and clean up.
_HAND_BACK_S = 10.0


class IntakeStep(bootsteps.StartStopStep):
    requires = (EngineStep,)

    def start(self, worker: Any) -> None:
        worker.app.process.leases.start()

    def stop(self, worker: Any) -> None:
        process = worker.app.process
        if process is None:
            return
        leases, grace_s = process.leases, process.settings.worker_drain_s
        leases.drain()
        if leases.running:
            log.info("draining", running=leases.running, grace_s=grace_s)
        if not leases.wait_idle(grace_s):
            leases.stop_all(StopReason.DRAINED)
            leases.wait_idle(_HAND_BACK_S)
        leases.close()
