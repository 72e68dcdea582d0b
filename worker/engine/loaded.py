"""A loaded model: the sessions of a version, one for each graph, and how one run sees them."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
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
from worker.engine.cores import Cores
from worker.engine.derived import Derived
from worker.engine.graph_tensors import graph_notes
from worker.engine.model_folder import ModelVersion
from worker.engine.places import Places
from worker.engine.run_watch import RunWatch, Unwatched
from worker.engine.session import Session, SessionSetup
from worker.engine.shared_files import SharedFiles
from worker.engine.weighing import CHILD_BYTES, weigh
from worker.stop import StopToken

T = TypeVar("T")
log = get_logger(__name__)


@dataclass(frozen=True)
class LoadedGraph:
    """One graph of a loaded model."""

    path: Path
    session: Session
    #: None where the author has not asked for batches.
    batcher: Batcher | None
    derived: Derived = field(default_factory=Derived)


@dataclass(frozen=True)
class LoadedModel:
    version: ModelVersion
    #: Of the main graph.
    session: Session
    setup: SessionSetup
    #: Of a simulated GPU (see `worker/device.py`).
    speed: float = 1.0
    watch: RunWatch = field(default_factory=Unwatched)
    #: Of the other graphs, by their names.
    beside: Mapping[str, Session] = field(default_factory=dict)
    #: All of them, in the version's order; and which of them is the main one.
    graphs: Mapping[str, LoadedGraph] = field(init=False)
    main: LoadedGraph = field(init=False)
    #: For runs on a CPU that are not joined, of all its graphs.
    places: Places | None = field(init=False, default=None)

    @classmethod
    def opened(
        cls,
        version: ModelVersion,
        setup: SessionSetup,
        alone: Callable[[], bool] = lambda: True,
        *,
        cores: Cores | None = None,
        speed: float = 1.0,
        watch: RunWatch | None = None,
    ) -> "LoadedModel":
        """Makes all sessions, or none: raises ModelError for the first graph that cannot be loaded, naming its file."""
        with ExitStack() as undo:
            sessions = {}
            for name, path in version.graphs.items():
                sessions[name] = Session(path, setup, alone, cores)
                undo.callback(sessions[name].close)
            main = sessions.pop(version.main)
            loaded = cls(version, main, setup, speed, watch or Unwatched(), sessions)
            undo.pop_all()
        return loaded

    def __post_init__(self) -> None:
        sessions = {**self.beside, self.version.main: self.session}
        graphs = {name: self._with_batcher(path, sessions[name]) for name, path in self.version.graphs.items()}
        object.__setattr__(self, "graphs", graphs)
        object.__setattr__(self, "main", graphs[self.version.main])
        # A GPU sees to its own runs, and one that is only played has no cores.
        if self.session.provider not in GPU_PROVIDERS and self.speed >= 1:
            object.__setattr__(self, "places", Places(max(2, usable_cpus(), self.at_once)))

    @property
    def batcher(self) -> Batcher | None:
        return self.main.batcher

    @property
    def derived(self) -> Derived:
        return self.main.derived

    @property
    def device_lost(self) -> bool:
        """Whether a run of any of its graphs has taken the device's context with it."""
        return any(graph.session.device_lost for graph in self.graphs.values())

    @property
    def fallback(self) -> str:
        """For people: what was asked for and is not used; empty when every graph runs as asked."""
        return next((graph.session.fallback for graph in self.graphs.values() if graph.session.fallback), "")

    @cached_property
    def at_once(self) -> int:
        """Runs at the same time: as the author says, else on a CPU as many as fill its cores."""
        instances = self.version.manifest.batching.instances
        if instances or self.session.provider in GPU_PROVIDERS:
            return instances or 1
        return max(1, usable_cpus() // (self.setup.intra_op_threads or usable_cpus()))

    @cached_property
    def shared(self) -> SharedFiles:
        return SharedFiles(self.version.folder.parent)

    def for_run(self, stop: StopToken, priority: Priority = Priority.NORMAL) -> "RunnableModel":
        """The model as one run sees it: its calls end when the run's token is set, and wait by its priority."""
        return RunnableModel(self, self.main, stop, priority)

    def run(self, feeds: Mapping[str, Array], stop: StopToken, session: Session | None = None) -> dict[str, Array]:
        """As `Session.run`, at the speed of the device; of the main graph, unless another's session is given."""
        session = session or self.session
        if self.speed >= 1:
            return session.run(feeds, stop)
        began = time.monotonic()
        outputs = session.run(feeds, stop)
        stop.wait((time.monotonic() - began) * (1 / self.speed - 1))
        stop.check()
        return outputs

    def shrink(self) -> None:
        """Gives back what earlier runs needed, of each graph that does not run now."""
        for graph in self.graphs.values():
            graph.session.shrink()

    def close(self) -> None:
        """Once nobody uses it any more: what it holds is given back at once."""
        for graph in self.graphs.values():
            graph.session.close()

    def ran(self, items: int, seconds: float) -> None:
        self.watch.ran(self.version.name, self.version.version, items, seconds)

    def _with_batcher(self, path: Path, session: Session) -> LoadedGraph:
        version, batching = self.version, self.version.manifest.batching
        if not batching.dynamic or batching.max_batch_size < 2:
            return LoadedGraph(path, session, None)
        waited = partial(self.watch.waited, version.name, version.version)
        batching = batching.model_copy(update={"instances": self.at_once})
        run = partial(self.run, session=session)
        # Whoever names sizes has measured; and a GPU gains by any.
        paced = not batching.preferred and session.provider not in GPU_PROVIDERS and self.speed >= 1
        batcher = Batcher(run, batching, model=version.key, ran=self.ran, waited=waited, paced=paced)
        if reason := never_joins(path, session.inputs, session.outputs):
            batcher.refuse(reason)
        return LoadedGraph(path, session, batcher)


@dataclass
class _Rows:
    """Of the largest run, of any graph, that rows of a job were part of."""

    most: int = 1

    def note(self, rows: int) -> None:
        self.most = max(self.most, rows)


class RunnableModel:
    """What a task gets (see `worker.contract.Model`): one graph of a loaded model, and the way to the others."""

    def __init__(
        self,
        loaded: LoadedModel,
        graph: LoadedGraph,
        stop: StopToken,
        priority: Priority = Priority.NORMAL,
        rows: _Rows | None = None,
    ) -> None:
        """rows: shared by all graphs that one run sees."""
        version, session = loaded.version, graph.session
        self._loaded = loaded
        self._graph = graph
        self._stop = stop
        self._priority = priority
        self._speed = loaded.speed
        self._rows = rows or _Rows()
        self.name: str = version.name
        self.version: int = version.version
        self.inputs: tuple[Tensor, ...] = session.inputs
        self.outputs: tuple[Tensor, ...] = session.outputs
        self.provider: str = session.provider
        self.settings: TaskSettings = version.settings
        self.labels: Mapping[int, str] = version.manifest.labels

    @property
    def batch_size(self) -> int:
        """Rows of the largest run that rows of this job were part of."""
        return self._rows.most

    @property
    def graphs(self) -> "Mapping[str, RunnableModel]":
        return {name: self._of(graph) for name, graph in self._loaded.graphs.items()}

    def _of(self, graph: LoadedGraph) -> "RunnableModel":
        if graph is self._graph:
            return self
        return RunnableModel(self._loaded, graph, self._stop, self._priority, self._rows)

    @property
    def signature(self) -> Signature:
        return self._loaded.version.signature

    @property
    def notes(self) -> GraphNotes:
        return graph_notes(self._graph.path)

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
        return self._graph.derived.get(make, self)

    def batched(self, feeds: Mapping[str, Array], most_rows: int | None = None) -> dict[str, Array]:
        most, batcher = self._loaded.version.manifest.batching.max_batch_size, self._graph.batcher
        if batcher is not None:
            answer = batcher.run(feeds, self._stop, self._priority, most_rows)
            self._rows.note(answer.batch_size)
            return answer.outputs
        if not most:
            return self.run(feeds)
        rows = rows_of(feeds)
        refuse_too_many(rows, most)
        return self._unbatched(feeds, rows)

    def _unbatched(self, feeds: Mapping[str, Array], rows: int) -> dict[str, Array]:
        places = self._loaded.places
        with places.one(self._stop, self._priority) if places is not None else nullcontext():
            began = time.monotonic()
            outputs = self._loaded.run(feeds, self._stop, self._graph.session)
            self._loaded.ran(rows, time.monotonic() - began)
        self._rows.note(rows)
        return outputs

    def pretend(self, cpu_s: float) -> None:
        self._wait(cpu_s / self._speed)

    def _wait(self, seconds: float) -> None:
        self._stop.wait(seconds)
        self._stop.check()

    def run_bytes(self, shapes: Shapes, weigh_with: Progress | None = None) -> int:
        appetite = self._graph.session.appetite
        if weigh_with is not None and not appetite.knows(shapes) and self.provider not in GPU_PROVIDERS:
            appetite.learn(count(shapes), self._weighed(shapes, weigh_with), runs=RUNS)
        return appetite.bytes_for(shapes)

    def _weighed(self, shapes: Shapes, progress: Progress) -> int:
        """With the whole budget to itself, so that it ends the right way whatever the model takes."""
        version, setup, check = self._loaded.version, self._loaded.setup, progress.check
        graph = self._graph.path
        try:
            # What is kept back besides has room for the child, but not for a second copy of the weights.
            most = progress.admit_all() - loading_bytes(version)
            base = CHILD_BYTES + loading_bytes(version)
            taken = weigh(graph, setup, self.inputs, shapes, base_bytes=base, most_bytes=most, check=check)
        finally:
            progress.admit("", 0)
        log.info("model weighed", model=version.key, taken_bytes=taken, most_bytes=most)
        return progress.memory_bytes if taken is None else taken


def loading_bytes(version: ModelVersion) -> int:
    """What sessions take besides their runs, at most: the weights as read, and as ONNX Runtime packs them.

    Measured: 1.2 to 1.4 times the file while loading, and as much after it.
    """
    return 2 * version.size_bytes + 16 * 1024**2
