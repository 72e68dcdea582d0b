"""A network in this process: as the worker runs it, and the bare runs of its graphs with nothing around them."""

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.cpus import usable_cpus
from fleet.settings import CPU_PROVIDER
from vision_lab.networks import Network
from worker.codecs import Codecs
from worker.contract import Array, Source
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import Session, SessionSetup
from worker.media.limits import VolumeLimits
from worker.memory.trim import keep_freed
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks import find_tasks

Runs = list[tuple[Path, dict[str, Array]]]


class InProcess:
    """One job after the other on this thread: decoded in a process of its own, prepared, run, answered, encoded."""

    def __init__(self, network: Network, work: Path) -> None:
        # As a worker does at its start.
        keep_freed(64 * 1024**2)
        self.network = network
        self._version = read_versions(network.folder, find_tasks())[0]
        setup = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
        self.model = LoadedModel.opened(self._version, setup)
        self._codecs = Codecs(VolumeLimits(), work)
        self._params = self._version.task.Params(**network.params)
        self._folder = work / f"{network.name}-answers"
        self.once()

    def once(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Its answer, and seconds by stage."""
        stop, task = StopToken(), self._version.task
        progress = JobProgress(stop, self._folder)
        began = time.perf_counter()
        source = Source(self.network.picture, self.network.picture.name, "image/jpeg")
        media = self._codecs.decode(task.accepts, [source], self._params, progress)
        outcome = task.run(media, self._params, self.model.for_run(stop), progress)
        encoded = self._codecs.encode(task.returns, outcome, self._folder)
        return dict(encoded.result), {**progress.timings, "all": time.perf_counter() - began}

    def runs(self) -> Runs:
        """Every run of a graph that one answer takes, with what it was fed."""
        with _recorded() as seen:
            self.once()
        return [(self.model.graphs[self._named(session)].path, feeds) for session, feeds in seen]

    def close(self) -> None:
        self._codecs.close()

    def _named(self, session: Session) -> str:
        return next(name for name, graph in self.model.graphs.items() if graph.session is session)


@contextmanager
def _recorded() -> Iterator[list[tuple[Session, dict[str, Array]]]]:
    seen: list[tuple[Session, dict[str, Array]]] = []
    plain = Session.run

    def run(self: Session, feeds: Mapping[str, Array], stop: StopToken) -> dict[str, Array]:
        seen.append((self, dict(feeds)))
        return plain(self, feeds, stop)

    Session.run = run  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Session.run = plain  # type: ignore[method-assign]


class Bare:
    """The same runs of the same graphs, and nothing else."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._cores = usable_cpus()
        paths = {path for path, _ in runs}
        self._sessions = {
            threads: {
                path: Session(path, SessionSetup([CPU_PROVIDER], intra_op_threads=threads, spin=False))
                for path in paths
            }
            for threads in {1, self._cores}
        }
        self._pool = ThreadPoolExecutor(self._cores)
        self.way = "a core each"

    def once(self, threads: int = 1) -> float:
        """Seconds of one picture on one core, or on so many."""
        began = time.perf_counter()
        for path, feeds in self._runs:
            self._sessions[threads][path].run(feeds, StopToken())
        return time.perf_counter() - began

    def rate(self, seconds: float) -> float:
        """Pictures a second in the better way that was found by `choose`."""
        return self._core_each(seconds) if self.way == "a core each" else self._together(seconds)

    def choose(self, seconds: float) -> None:
        rates = {"a core each": self._core_each(seconds), "all cores together": self._together(seconds)}
        self.way = max(rates, key=lambda way: rates[way])

    def _together(self, seconds: float) -> float:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            self.once(self._cores)
            count += 1
        return count / (time.perf_counter() - began)

    def _core_each(self, seconds: float) -> float:
        lock, count = threading.Lock(), 0
        began = time.perf_counter()

        def work() -> None:
            nonlocal count
            while time.perf_counter() - began < seconds:
                self.once()
                with lock:
                    count += 1

        for done in [self._pool.submit(work) for _ in range(self._cores)]:
            done.result()
        return count / (time.perf_counter() - began)
