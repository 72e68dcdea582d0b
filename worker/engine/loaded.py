"""A loaded model: one session of a version, and how one run sees it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from fleet.logs import get_logger
from fleet.settings import GPU_PROVIDERS
from worker.contract import Array, Progress, Shapes, TaskSettings, Tensor
from worker.engine.appetite import RUNS, count
from worker.engine.model_folder import ModelVersion
from worker.engine.session import Session, SessionSetup
from worker.engine.weighing import CHILD_BYTES, weigh
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

    def batched(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self.run(feeds)

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


def loading_bytes(version: ModelVersion) -> int:
    """What a session takes besides its runs, at most: the weights as read, and as ONNX Runtime packs them.

    Measured: 1.2 to 1.4 times the file while loading, and as much after it.
    """
    return 2 * version.size_bytes + 16 * 1024**2
