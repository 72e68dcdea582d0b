"""A loaded model: one session of a version, and how one run sees it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from fleet.contracts import Priority
from fleet.cpus import usable_cpus
from fleet.logs import get_logger
from fleet.settings import GPU_PROVIDERS
from worker.contract import Array, GraphNotes, Model, Progress, Shapes, Signature, TaskSettings, Tensor
from worker.engine.appetite import RUNS, count
from worker.engine.batch_rows import never_joins, refuse_too_many, rows_of
from worker.engine.batcher import Batcher
from worker.engine.derived import Derived
from worker.engine.graph_tensors import graph_notes
from worker.engine.model_folder import ModelVersion
from worker.engine.run_watch import RunWatch, Unwatched
from worker.engine.session import Session, SessionSetup
from worker.engine.weighing import CHILD_BYTES, weigh
from worker.stop import StopToken

T = TypeVar("T")
log = get_logger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    version: ModelVersion
    session: Session
    setup: SessionSetup
    #: Of a simulated GPU (see `worker/device.py`).
    speed: float = 1.0
    watch: RunWatch = field(default_factory=Unwatched)
    #: None where the author has not asked for batches.
    batcher: Batcher | None = field(init=False)
    derived: Derived = field(default_factory=Derived, init=False)

    @cached_property
    def at_once(self) -> int:
        """Runs at the same time: as the author says, else on a CPU as many as fill its cores."""
        instances = self.version.manifest.batching.instances
        if instances or self.session.provider in GPU_PROVIDERS:
            return instances or 1
        return max(1, usable_cpus() // (self.setup.intra_op_threads or usable_cpus()))

    def __post_init__(self) -> None:
        object.__setattr__(self, "batcher", self._made_batcher())

    def for_run(self, stop: StopToken, priority: Priority = Priority.NORMAL) -> "RunnableModel":
        """The model as one run sees it: its calls end when the run's token is set, and wait by its priority."""
        return RunnableModel(self, stop, priority)

    def run(self, feeds: Mapping[str, Array], stop: StopToken) -> dict[str, Array]:
        """As `Session.run`, at the speed of the device."""
        if self.speed >= 1:
            return self.session.run(feeds, stop)
        began = time.monotonic()
        outputs = self.session.run(feeds, stop)
        stop.wait((time.monotonic() - began) * (1 / self.speed - 1))
        stop.check()
        return outputs

    def close(self) -> None:
        """Once nobody uses it any more: what it holds is given back at once."""
        self.session.close()

    def ran(self, items: int, seconds: float) -> None:
        self.watch.ran(self.version.name, self.version.version, items, seconds)

    def _made_batcher(self) -> Batcher | None:
        version, batching = self.version, self.version.manifest.batching
        if not batching.dynamic or batching.max_batch_size < 2:
            return None
        waited = partial(self.watch.waited, version.name, version.version)
        batching = batching.model_copy(update={"instances": self.at_once})
        batcher = Batcher(self.run, batching, model=version.key, ran=self.ran, waited=waited)
        if reason := never_joins(version.graph, self.session.inputs, self.session.outputs):
            batcher.refuse(reason)
        return batcher


class RunnableModel:
    """What a task gets (see `worker.contract.Model`)."""

    def __init__(self, loaded: LoadedModel, stop: StopToken, priority: Priority = Priority.NORMAL) -> None:
        version, session = loaded.version, loaded.session
        self._loaded = loaded
        self._session = session
        self._stop = stop
        self._priority = priority
        self._speed = loaded.speed
        #: Rows of the largest run that this one's rows were part of.
        self.batch_size = 1
        self.name: str = version.name
        self.version: int = version.version
        self.inputs: tuple[Tensor, ...] = session.inputs
        self.outputs: tuple[Tensor, ...] = session.outputs
        self.provider: str = session.provider
        self.settings: TaskSettings = version.settings
        self.labels: Mapping[int, str] = version.manifest.labels

    @property
    def signature(self) -> Signature:
        return self._loaded.version.signature

    @property
    def notes(self) -> GraphNotes:
        return graph_notes(self._loaded.version.graph)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self._unbatched(feeds, 1)

    @property
    def max_batch_size(self) -> int:
        return self._loaded.version.manifest.batching.max_batch_size

    @property
    def at_once(self) -> int:
        return self._loaded.at_once

    def file(self, path: str) -> Path | None:
        version = self._loaded.version.folder
        return next((found for folder in (version, version.parent) if (found := folder / path).is_file()), None)

    def derived(self, make: Callable[[Model], T]) -> T:
        return self._loaded.derived.get(make, self)

    def batched(self, feeds: Mapping[str, Array], most_rows: int | None = None) -> dict[str, Array]:
        most, batcher = self._loaded.version.manifest.batching.max_batch_size, self._loaded.batcher
        if batcher is not None:
            answer = batcher.run(feeds, self._stop, self._priority, most_rows)
            self.batch_size = max(self.batch_size, answer.batch_size)
            return answer.outputs
        if not most:
            return self.run(feeds)
        rows = rows_of(feeds)
        refuse_too_many(rows, most)
        return self._unbatched(feeds, rows)

    def _unbatched(self, feeds: Mapping[str, Array], rows: int) -> dict[str, Array]:
        began = time.monotonic()
        outputs = self._loaded.run(feeds, self._stop)
        self._loaded.ran(rows, time.monotonic() - began)
        self.batch_size = max(self.batch_size, rows)
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


def loading_bytes(version: ModelVersion) -> int:
    """What a session takes besides its runs, at most: the weights as read, and as ONNX Runtime packs them.

    Measured: 1.2 to 1.4 times the file while loading, and as much after it.
    """
    return 2 * version.size_bytes + 16 * 1024**2
