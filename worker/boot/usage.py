"""Boot step: tells the record about once a second what was run of each model; the end of the process tells the rest."""

import threading
from typing import Any

from celery import bootsteps

from worker.boot.device import DeviceStep


class UsageStep(bootsteps.StartStopStep):
    requires = (DeviceStep,)

    def __init__(self, worker: Any, **_: Any) -> None:
        self._ended = threading.Event()

    def start(self, worker: Any) -> None:
        usage = worker.app.process.usage
        threading.Thread(target=usage.keep_telling, args=(self._ended,), name="usage", daemon=True).start()

    def stop(self, worker: Any) -> None:
        self._ended.set()
