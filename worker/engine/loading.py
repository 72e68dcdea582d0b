"""Making the session of a model beside those that serve, and measuring what it takes."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fleet.errors import InputTooLarge, ModelError, NoCapableWorker
from fleet.logs import get_logger
from fleet.settings import GPU_PROVIDERS
from worker.contract import Progress
from worker.engine.cores import Cores
from worker.engine.declared import faults_of
from worker.engine.device_memory import DeviceMemory
from worker.engine.loaded import LoadedModel, loading_bytes
from worker.engine.model_folder import ModelVersion
from worker.engine.run_watch import RunWatch, Unwatched
from worker.engine.session import SessionSetup
from worker.engine.warming import warm
from worker.memory.budget import Budget, shown
from worker.memory.trim import trim
from worker.stop import StopToken

#: Of what a model is expected to take: others may be granted so much, and its load is still measured.
_NOISE = 0.1
log = get_logger(__name__)


def refuse_silent_cpu(model: str, asked: Sequence[str], using: str) -> None:
    """Raises NoCapableWorker `gpu-unusable` for a session that was made for a GPU and has become one for the CPU."""
    if asked[0] in GPU_PROVIDERS and using not in GPU_PROVIDERS:
        log.error("model not served: it would run on the CPU of a GPU worker", model=model, asked=asked[0], using=using)
        raise NoCapableWorker(
            f"{model} was to run with {asked[0]}, and ONNX Runtime made a session that uses {using} alone",
            code="gpu-unusable",
        )


@dataclass(frozen=True)
class Made:
    loaded: LoadedModel
    seconds: float
    #: None when something else went on meanwhile.
    grown_bytes: int | None


class Loader:
    """Thread-safe; knows of no other session."""

    def __init__(
        self,
        setup_for: Callable[[ModelVersion], SessionSetup],
        memory: DeviceMemory,
        budget: Budget | None,
        *,
        speed: float = 1.0,
        watch: RunWatch | None = None,
        after_load: Callable[[LoadedModel], None] | None = None,
    ) -> None:
        self._setup_for = setup_for
        self._memory = memory
        self._budget = budget
        self._speed = speed
        self._watch = watch or Unwatched()
        self._after_load = after_load
        self._cores = Cores()
        self._lock = threading.Lock()
        self._begun = 0
        self._running = 0
        self._fell_back = False

    def fell_back(self) -> bool:
        """Whether a session was refused since the last call that had become one for the CPU: is the GPU still there?"""
        with self._lock:
            fell_back, self._fell_back = self._fell_back, False
        return fell_back

    def make(self, version: ModelVersion, expected_bytes: int, granted_bytes: int = 0) -> Made:
        """Sets up, loads and warms. `granted_bytes`: what the run that it is for holds of the budget.

        Raises ModelError, NoCapableWorker `gpu-unusable` or `wrong-device`; nothing is left of the session then.
        """
        began = time.monotonic()
        setup = self._setup_for(version)
        with self._lock:
            self._begun += 1
            self._running += 1
            mine, alone = self._begun, self._running == 1
        try:
            loaded, grown = self._measured(version, setup)
        finally:
            with self._lock:
                self._running -= 1
                alone = alone and self._begun == mine
        others = self._budget.granted_bytes - granted_bytes if self._budget else 0
        quiet = alone and others <= _NOISE * expected_bytes
        return Made(loaded, time.monotonic() - began, grown if quiet else None)

    def _measured(self, version: ModelVersion, setup: SessionSetup) -> tuple[LoadedModel, int]:
        alone = self._budget.alone if self._budget else lambda: True
        # What was freed and kept would be taken from, and what the file's copy took would be counted.
        trim()
        before = self._memory.held_bytes()
        loaded = LoadedModel.opened(version, setup, alone, cores=self._cores, speed=self._speed, watch=self._watch)
        trim()
        grown = self._memory.held_bytes() - before
        try:
            self._refuse_silent_cpu(loaded)
            if self._after_load is not None:
                self._after_load(loaded)
        except BaseException:
            loaded.close()
            raise
        # A device's memory that runs took stays with the session.
        return loaded, max(grown, self._memory.held_bytes() - before) if self._memory.of_device else grown

    def _refuse_silent_cpu(self, loaded: LoadedModel) -> None:
        try:
            for graph in loaded.graphs.values():
                refuse_silent_cpu(loaded.version.key, loaded.setup.providers, graph.session.provider)
        except NoCapableWorker:
            with self._lock:
                self._fell_back = True
            raise


def admitted(version: ModelVersion, progress: Progress) -> int:
    """Asks the process's memory for what loading takes, on behalf of the run that needs the model -> bytes.

    Raises ModelError `memory-error` when the process can never have so much.
    """
    granted = loading_bytes(version)
    try:
        progress.admit(f"loading {version.key}", granted)
    except InputTooLarge as error:
        most = int(error.facts["allowed_bytes"])
        raise ModelError(
            f"loading {version.key} takes an estimated {shown(granted)} of memory, and a run on this worker may take "
            f"{shown(most)}. Serve it from a larger worker, or make it smaller: fleet models quantize",
            code="memory-error",
            needed_bytes=granted,
            budget_bytes=most,
        ) from error
    return granted


def ready(loaded: LoadedModel) -> None:
    """Compares what is declared of a model with its graph, and runs its warm-up: the hook of a worker's registry.

    Raises ModelError.
    """
    if wrong := faults_of(loaded.version, loaded.session.inputs, loaded.session.outputs):
        raise ModelError(f"{loaded.version.key} is not as it is declared: {'; '.join(wrong)}")
    warm(
        loaded.version,
        {name: partial(loaded.run, stop=StopToken(), session=graph.session) for name, graph in loaded.graphs.items()},
    )
