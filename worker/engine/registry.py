"""The registry: which models are loaded. One session per model version, shared by all threads."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fleet.logs import get_logger
from worker.contract import Array, TaskSettings, Tensor
from worker.engine.repository import ModelVersion, Repository
from worker.engine.session import Session, SessionSetup
from worker.stop import StopToken

log = get_logger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    version: ModelVersion
    session: Session

    def for_run(self, stop: StopToken) -> "RunnableModel":
        """The model as one run sees it: its calls end when the run's token is set."""
        return RunnableModel(self, stop)


class RunnableModel:
    """What a task gets (see `worker.contract.Model`)."""

    def __init__(self, loaded: LoadedModel, stop: StopToken) -> None:
        version, session = loaded.version, loaded.session
        self._session = session
        self._stop = stop
        self.name: str = version.name
        self.version: int = version.version
        self.inputs: tuple[Tensor, ...] = session.inputs
        self.outputs: tuple[Tensor, ...] = session.outputs
        self.provider: str = session.provider
        self.settings: TaskSettings = version.settings
        self.labels: Mapping[int, str] = version.manifest.labels

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self._session.run(feeds, self._stop)


class Registry:
    """Loads each model once, whoever asks first; others that ask meanwhile wait for that load only."""

    def __init__(self, repository: Repository, setup_for: Callable[[ModelVersion], SessionSetup]) -> None:
        self.repository = repository
        self._setup_for = setup_for
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._loaded: dict[str, LoadedModel] = {}

    @property
    def loaded(self) -> list[str]:
        """Keys "name/version" of what is loaded now."""
        with self._lock:
            return sorted(self._loaded)

    def load(self, name: str, version: int) -> LoadedModel:
        """Raises NotFound when this worker does not hold it, ModelError when it cannot be loaded."""
        found = self.repository.get(name, version)
        with self._lock:
            loaded = self._loaded.get(found.key)
            gate = self._loading.setdefault(found.key, threading.Lock())
        if loaded is not None:
            return loaded
        with gate:
            with self._lock:
                loaded = self._loaded.get(found.key)
            if loaded is None:
                loaded = LoadedModel(found, Session(found.graph, self._setup_for(found)))
                with self._lock:
                    self._loaded[found.key] = loaded
                log.info("model loaded", model=found.key, provider=loaded.session.provider)
        return loaded

    def clear(self) -> None:
        with self._lock:
            self._loaded.clear()
