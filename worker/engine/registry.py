"""The registry: which models are loaded. One session per model version, shared by all threads."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fleet.errors import NoCapableWorker
from fleet.logs import get_logger
from fleet.settings import GPU_PROVIDERS
from worker.contract import Array, Progress, Shapes, TaskSettings, Tensor
from worker.engine.appetite import RUNS, count
from worker.engine.repository import ModelVersion, Repository
from worker.engine.session import Session, SessionSetup
from worker.engine.weighing import CHILD_BYTES, weigh
from worker.memory.budget import Budget
from worker.stop import StopToken

log = get_logger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    version: ModelVersion
    session: Session
    setup: SessionSetup
    #: Of a simulated GPU (see `worker/device.py`).
    speed: float = 1.0

    def for_run(self, stop: StopToken) -> "RunnableModel":
        """The model as one run sees it: its calls end when the run's token is set."""
        return RunnableModel(self, stop)


class RunnableModel:
    """What a task gets (see `worker.contract.Model`)."""

    def __init__(self, loaded: LoadedModel, stop: StopToken) -> None:
        version, session = loaded.version, loaded.session
        self._loaded = loaded
        self._session = session
        self._stop = stop
        self._speed = loaded.speed
        self.name: str = version.name
        self.version: int = version.version
        self.inputs: tuple[Tensor, ...] = session.inputs
        self.outputs: tuple[Tensor, ...] = session.outputs
        self.provider: str = session.provider
        self.settings: TaskSettings = version.settings
        self.labels: Mapping[int, str] = version.manifest.labels

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if self._speed >= 1:
            return self._session.run(feeds, self._stop)
        began = time.monotonic()
        outputs = self._session.run(feeds, self._stop)
        self._wait((time.monotonic() - began) * (1 / self._speed - 1))
        return outputs

    def pretend(self, cpu_s: float) -> None:
        self._wait(cpu_s / self._speed)

    def _wait(self, seconds: float) -> None:
        self._stop.wait(seconds)
        self._stop.check()

    def run_bytes(self, shapes: Shapes, weigh_with: Progress | None = None) -> int:
        appetite = self._session.appetite
        if weigh_with is not None and not appetite.knows(shapes) and self.provider not in GPU_PROVIDERS:
            appetite.learn(count(shapes), self._weighed(shapes, weigh_with), runs=RUNS)
        return appetite.bytes_for(shapes)

    def _weighed(self, shapes: Shapes, progress: Progress) -> int:
        """With the whole budget to itself, so that it ends the right way whatever the model takes."""
        version, setup, check = self._loaded.version, self._loaded.setup, progress.check
        try:
            # What is kept back besides has room for the child, but not for a second copy of the weights.
            most = progress.admit_all() - loading_bytes(version)
            base = CHILD_BYTES + loading_bytes(version)
            taken = weigh(version.graph, setup, self.inputs, shapes, base_bytes=base, most_bytes=most, check=check)
        finally:
            progress.admit("", 0)
        log.info("model weighed", model=version.key, taken_bytes=taken, most_bytes=most)
        return progress.memory_bytes if taken is None else taken


def refuse_silent_cpu(model: str, asked: Sequence[str], using: str) -> None:
    """Raises NoCapableWorker `gpu-unusable` for a session that was made for a GPU and has become one for the CPU."""
    if asked[0] in GPU_PROVIDERS and using not in GPU_PROVIDERS:
        log.error("model not served: it would run on the CPU of a GPU worker", model=model, asked=asked[0], using=using)
        raise NoCapableWorker(
            f"{model} was to run with {asked[0]}, and ONNX Runtime made a session that uses {using} alone",
            code="gpu-unusable",
        )


def loading_bytes(version: ModelVersion) -> int:
    """What a session takes besides its runs, at most: the weights as read, and as ONNX Runtime packs them.

    Measured: 1.2 to 1.4 times the file while loading, and as much after it.
    """
    return 2 * version.size_bytes + 16 * 1024**2


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
