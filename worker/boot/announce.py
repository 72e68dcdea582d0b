"""Boot step 4: tell the fleet who is here and what it can serve; the first to withdraw."""

import threading
from collections.abc import Callable
from typing import Any

import psutil
from celery import bootsteps

from fleet.catalogue import ALIVE_S, WorkerRow
from fleet.errors import FleetError
from fleet.logs import get_logger
from worker.boot.intake import IntakeStep
from worker.engine.model_version import ModelVersion
from worker.process import Process
from worker.queue_order import routed

log = get_logger(__name__)


class AnnounceStep(bootsteps.StartStopStep):
    requires = (IntakeStep,)

    def start(self, worker: Any) -> None:
        self._announcer = Announcer(worker.app.process, lambda: list(worker.app.amqp.queues.consume_from))
        worker.app.announcer = self._announcer
        self._announcer.start()

    def close(self, worker: Any) -> None:
        """Called before anything is stopped: no new work is to be routed here."""
        if announcer := getattr(self, "_announcer", None):
            announcer.drain()

    def stop(self, worker: Any) -> None:
        if announcer := getattr(self, "_announcer", None):
            announcer.close()


class Announcer:
    """Writes the worker's row every few seconds, from a thread of its own."""

    def __init__(self, process: Process, queues: Callable[[], list[str]]) -> None:
        """`queues`: those that the process takes from now."""
        self._process = process
        self._queues = queues
        self._wake = threading.Event()
        #: The versions whose cards are in the catalogue.
        self._told: dict[tuple[str, int], ModelVersion] = {}
        self._consuming = False
        self._draining = False
        self._closing = False
        self._thread = threading.Thread(target=self._keep, name="announcer", daemon=True)

    def start(self) -> None:
        self._tell_cards()
        self._thread.start()

    def tell_models(self) -> None:
        """Models have come, gone or changed their state here. From the keeper's thread."""
        self._tell_cards()
        self._wake.set()

    def _tell_cards(self) -> None:
        """Those of the folder; what the house has got its card when it was brought in."""
        process = self._process
        versions = process.registry.repository.versions
        told, cards = {}, []
        for key, version in versions.items():
            if self._told.get(key) is not version:
                try:
                    cards.append(version.card())
                except (FleetError, OSError) as error:
                    log.error("model not announced", model=version.key, reason=str(error))
                    continue
            told[key] = version
        process.catalogue.announce_cards(cards, process.name)
        self._told = told

    def consuming(self) -> None:
        """The consumer is up: from now on the fleet may count on this worker."""
        self._consuming = True
        self._wake.set()
        self._process.pulse.consuming()

    def tell_soon(self) -> None:
        """Something has changed that others go by."""
        self._wake.set()

    def drain(self) -> None:
        self._process.pulse.draining()
        self._draining = True
        self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        self._thread.join()
        try:
            self._process.catalogue.withdraw_worker(self._process.name, self._process.pid)
        except FleetError as error:
            log.warning("worker row not withdrawn", code=error.code)

    def _keep(self) -> None:
        while not self._closing:
            if self._consuming:
                self._tell()
            self._wake.wait(ALIVE_S / 3)
            self._wake.clear()

    def _tell(self) -> None:
        process, device = self._process, self._process.device
        row = WorkerRow(
            name=process.name,
            host=process.host,
            pid=process.pid,
            pool=device.pool,
            lanes=process.settings.worker_lanes,
            device=device.name,
            provider=device.providers.best,
            simulated=device.simulated,
            concurrency=device.concurrency,
            models=process.registry.repository.keys,
            loaded=process.registry.loaded,
            running=process.leases.running,
            rss_bytes=psutil.Process().memory_info().rss,
            draining=self._draining,
            kind=device.kind,
            helps=process.helping.willing,
            queues=[] if self._draining else routed(self._queues()),
            memory_usable_bytes=process.memory.budget.usable_bytes,
            memory_granted_bytes=process.memory.budget.granted_bytes,
            model_states=process.keeper.states(),
        )
        try:
            process.catalogue.announce_worker(row)
            process.lessons.tell()
        except FleetError as error:
            log.warning("worker row not written", code=error.code)
        except Exception:
            # A worker that nobody sees gets no work: this thread outlives whatever comes.
            log.exception("worker row not written")
