"""Boot step 6: Prometheus metrics of this process on `WORKER_METRICS_PORT`, when one is set."""

from typing import Any

from celery import bootsteps
from prometheus_client import start_http_server

from fleet.logs import get_logger
from worker.boot.device import DeviceStep

log = get_logger(__name__)


class ExporterStep(bootsteps.StartStopStep):
    requires = (DeviceStep,)

    def include_if(self, worker: Any) -> bool:
        from fleet.settings import Settings

        return Settings().worker_metrics_port > 0

    def start(self, worker: Any) -> None:
        process = worker.app.process
        port = process.settings.worker_metrics_port
        self._server, self._thread = start_http_server(port, registry=process.measures.registry)
        log.info("metrics served", port=port)

    def stop(self, worker: Any) -> None:
        if server := getattr(self, "_server", None):
            server.shutdown()
            server.server_close()
            self._thread.join()
