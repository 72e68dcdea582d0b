"""The registry: which models are loaded. One session per model version, shared by all threads."""

import threading
from collections.abc import Callable, Sequence

from fleet.errors import NoCapableWorker
from fleet.logs import get_logger
from fleet.settings import GPU_PROVIDERS
from worker.contract import Progress
from worker.engine.loaded import LoadedModel, loading_bytes
from worker.engine.model_folder import ModelVersion
from worker.engine.repository import Repository
from worker.engine.session import Session, SessionSetup
from worker.memory.budget import Budget

log = get_logger(__name__)


def refuse_silent_cpu(model: str, asked: Sequence[str], using: str) -> None:
    """Raises NoCapableWorker `gpu-unusable` for a session that was made for a GPU and has become one for the CPU."""
    if asked[0] in GPU_PROVIDERS and using not in GPU_PROVIDERS:
        log.error("model not served: it would run on the CPU of a GPU worker", model=model, asked=asked[0], using=using)
        raise NoCapableWorker(
            f"{model} was to run with {asked[0]}, and ONNX Runtime made a session that uses {using} alone",
            code="gpu-unusable",
        )


class Registry:
    """Loads each model once, whoever asks first; others that ask meanwhile wait for that load only."""

    def __init__(
        self,
        repository: Repository,
        setup_for: Callable[[ModelVersion], SessionSetup],
        budget: Budget | None = None,
        *,
        speed: float = 1.0,
    ) -> None:
        """`speed` is the device's, other than 1 only for a simulated GPU."""
        self.repository = repository
        self._setup_for = setup_for
        self._budget = budget
        self._speed = speed
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._loaded: dict[str, LoadedModel] = {}
        self._fell_back = False

    @property
    def loaded(self) -> list[str]:
        """Keys "name/version" of what is loaded now."""
        with self._lock:
            return sorted(self._loaded)

    @property
    def device_lost(self) -> bool:
        """Whether a run has taken the device's context with it: nothing in this process can run on it any more."""
        with self._lock:
            return any(loaded.session.device_lost for loaded in self._loaded.values())

    def fell_back(self) -> bool:
        """Whether a session was refused since the last call that had become one for the CPU: is the GPU still there?"""
        with self._lock:
            fell_back, self._fell_back = self._fell_back, False
        return fell_back

    def load(self, name: str, version: int, progress: Progress | None = None) -> LoadedModel:
        """Raises NotFound when this worker does not hold it, ModelError when it cannot be loaded.

        Raises NoCapableWorker `gpu-unusable` when it was to run on the GPU and would run on the CPU.

        With `progress`, that of the run that needs it, memory is asked for first.
        """
        found = self.repository.get(name, version)
        with self._lock:
            loaded = self._loaded.get(found.key)
            gate = self._loading.setdefault(found.key, threading.Lock())
        if loaded is not None:
            return loaded
        if progress is not None:
            # Not behind the gate: who waits there hears no stop.
            progress.admit(f"loading {found.key}", loading_bytes(found))
        with gate:
            with self._lock:
                loaded = self._loaded.get(found.key)
            if loaded is None:
                loaded = self._made(found)
                with self._lock:
                    self._loaded[found.key] = loaded
                log.info("model loaded", model=found.key, provider=loaded.session.provider)
        if progress is not None:
            progress.admit("", 0)
        return loaded

    def _made(self, version: ModelVersion) -> LoadedModel:
        setup, budget = self._setup_for(version), self._budget
        if budget is None:
            session = Session(version.graph, setup)
        else:
            session = Session(version.graph, setup, budget.alone)
            budget.grew(loading_bytes(version))
        try:
            refuse_silent_cpu(version.key, setup.providers, session.provider)
        except NoCapableWorker:
            with self._lock:
                self._fell_back = True
            raise
        return LoadedModel(version, session, setup, self._speed)

    def shrink(self) -> None:
        """Gives back what the loaded models keep from earlier runs."""
        with self._lock:
            loaded = list(self._loaded.values())
        for model in loaded:
            model.session.shrink()

    def clear(self) -> None:
        with self._lock:
            self._loaded.clear()
