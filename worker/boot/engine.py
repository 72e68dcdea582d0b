"""Boot step 2: read the repository and load what is to be ready before the first job."""

from typing import Any

from celery import bootsteps

from fleet.contracts import MediaKind
from fleet.errors import FleetError
from fleet.logs import get_logger
from worker.boot.device import DeviceStep

log = get_logger(__name__)


class EngineStep(bootsteps.StartStopStep):
    requires = (DeviceStep,)

    def start(self, worker: Any) -> None:
        process = worker.app.process
        versions = process.registry.repository.versions
        log.info(
            "model repository read",
            root=str(process.settings.models_path),
            models=sorted(f"{n}/{v}" for n, v in versions),
        )
        lanes = process.settings.worker_lanes
        if any(v.task.accepts is MediaKind.VOLUME and v.manifest.lane in lanes for v in versions.values()):
            process.codecs.prewarm()
        for wanted in process.settings.preload_models:
            name, _, number = wanted.partition("/")
            version = int(number) if number else max((v for n, v in versions if n == name), default=1)
            try:
                process.registry.load(name, version)
            except FleetError as error:
                log.error("model not preloaded", model=wanted, code=error.code, reason=error.message)
