"""Boot step 2: read the repository and load what is to be ready before the first job."""

from collections.abc import Iterable
from typing import Any

from celery import bootsteps

from fleet.errors import FleetError
from fleet.logs import get_logger
from worker.boot.device import DeviceStep
from worker.engine.registry import Registry

log = get_logger(__name__)


class EngineStep(bootsteps.StartStopStep):
    requires = (DeviceStep,)

    def start(self, worker: Any) -> None:
        process = worker.app.process
        # Celery looks through all packages for a backend, though it is to have none. Else each thread would: 40 ms.
        _ = worker.app.backend
        versions = process.registry.repository.versions
        log.info(
            "model repository read",
            root=str(process.settings.models_path),
            models=sorted(f"{n}/{v}" for n, v in versions),
        )
        lanes = process.settings.worker_lanes
        process.codecs.prewarm({v.task.accepts for v in versions.values() if v.manifest.lane in lanes})
        preload(process.registry, process.settings.preload_models)


def preload(registry: Registry, wanted: Iterable[str]) -> None:
    """Loads and keeps each "name" or "name/version", the highest where none is named; what cannot be is logged."""
    keys = [key.rpartition("/") for key in registry.repository.keys]
    for model in wanted:
        name, _, number = model.partition("/")
        version = int(number) if number.isdecimal() else max((int(v) for n, _, v in keys if n == name), default=1)
        registry.pin(f"{name}/{version}")
        try:
            registry.load(name, version)
        except FleetError as error:
            log.error("model not preloaded", model=model, code=error.code, reason=error.message)
