"""Boot step: bring in the models that were asked for, and keep to what is desired of those that are here."""

from typing import Any

from celery import bootsteps

from worker.boot.announce import AnnounceStep
from worker.house.importer import Importer
from worker.house.importing import Workshop
from worker.process import Process


class HouseStep(bootsteps.StartStopStep):
    requires = (AnnounceStep,)

    def start(self, worker: Any) -> None:
        process: Process = worker.app.process
        house, settings = process.house, process.settings
        workshop = Workshop(
            settings, process.device, house.objects, house.downloads, house.disk, process.memory, dict(house.tasks)
        )
        self._importer = Importer(
            house.records,
            workshop,
            settings,
            worker=process.name,
            pool=process.device.pool,
            ended=process.measures.import_ended,
        )
        house.disk.sweep()
        self._importer.start()
        process.keeper.start(worker.app.announcer.tell_models)

    def close(self, worker: Any) -> None:
        """Called before anything is stopped: another worker is to go on at once."""
        if importer := getattr(self, "_importer", None):
            importer.close()

    def stop(self, worker: Any) -> None:
        if worker.app.process is not None:
            worker.app.process.keeper.close()
