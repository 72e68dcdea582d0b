"""Does to its own process what a bad input may do: ends it by a signal, or does not let itself be stopped."""

import ctypes
import gc
import os
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from celery.worker.consumer import Consumer
from kombu.asynchronous import get_event_loop
from pydantic import Field

from fleet.contracts import MediaKind, ResultKind, Stage
from worker.contract import Model, Progress, TaskParams, TaskSettings


def halt_loop() -> None:
    get_event_loop().call_soon(time.sleep, 600)


def halt_interpreter() -> None:
    # Unlike CDLL, PyDLL keeps Python's lock.
    ctypes.PyDLL(None).sleep(600)


def halt_consumer() -> None:
    (consumer,) = (found for found in gc.get_objects() if type(found) is Consumer)
    get_event_loop().call_soon(consumer.task_consumer.cancel)


HALTS = {"loop": halt_loop, "interpreter": halt_interpreter, "consumer": halt_consumer}


class Perilous:
    name: ClassVar[str] = "perilous"
    accepts: ClassVar[MediaKind] = MediaKind.NONE
    returns: ClassVar[ResultKind] = ResultKind.JSON

    class Settings(TaskSettings):
        pass

    class Params(TaskParams):
        seconds: float = Field(default=0.0, ge=0)
        #: After these seconds, and nothing for 0.
        signal: int = 0
        deaf: bool = False
        #: Brings a part of the worker to a standstill: `loop`, `interpreter` or `consumer`.
        halts: str = ""

    def run(self, media: None, params: Params, model: Model, progress: Progress) -> dict[str, Any]:
        ends_at = time.monotonic() + params.seconds
        with progress.stage(Stage.INFER):
            while time.monotonic() < ends_at:
                time.sleep(0.02)
                if not params.deaf:
                    progress.check()
        if params.signal:
            os.kill(os.getpid(), params.signal)
            time.sleep(60)
        if params.halts:
            HALTS[params.halts]()
        return {"pid": os.getpid()}

    def check(self, model: Model) -> Iterator[str]:
        return iter(())


TASK = Perilous()
