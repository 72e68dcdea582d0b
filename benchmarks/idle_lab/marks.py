"""Moments of one request, noted in the processes that serve it; all read the same clock of the machine.

`hooks/sitecustomize.py` calls `watch` in each process of a stack that was told to; the functions below are wrapped once
their module has been imported, and say when they begin and when they end.
"""

import functools
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

#: Folder that each process writes its file to.
FOLDER = "FLEET_MARKS"
#: Of api and worker: what is wrapped, and how it is called in the table.
WATCHED = {
    "api.request_events:RequestEvents.__call__": "api: request",
    "api.openai.embedding:read_request": "api: body",
    "api.embedding_jobs:EmbeddingJobs.run": "api: job",
    "api.submission:Submission.submit": "api: submit",
    "api.waiting:Waiters._told": "api: bell",
    "api.reading:Reader.job": "api: read row",
    "api.embedding_jobs:EmbeddingJobs._answer": "api: vectors",
    "api.openai.embedding:answer": "api: answer",
    "fleet.jobs:JobStore.submit": "submit in PostgreSQL",
    "fleet.jobs:JobStore.claim": "claim in PostgreSQL",
    "fleet.jobs:JobStore.finish": "finish in PostgreSQL",
    "fleet.jobs:JobStore.existing": "read in PostgreSQL",
    "fleet.broker:Broker.publish": "push to Redis",
    "fleet.broker:Broker.tell_ended": "bell to Redis",
    "kombu.transport.redis:Channel._brpop_read": "worker: message",
    "worker.runner:Runner.run": "worker: run",
    "worker.runner:Runner._walk": "worker: walk",
    "worker.runner:Runner._conclude": "worker: conclude",
    "worker.tasks.text_embedding:TextEmbedding.run": "worker: task",
    "worker.tasks.echo:Echo.run": "worker: task",
    "worker.engine.session:Session.run": "worker: session",
}


class Marks:
    """Where a process notes its moments."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / f"{os.getpid()}.marks", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def note(self, name: str) -> None:
        os.write(self._file, f"{time.perf_counter()}\t{name}\n".encode())

    def around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        begins, ends = f"{name} …", f"{name} ✓"
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waited(*args: Any, **kwargs: Any) -> Any:
                self.note(begins)
                try:
                    return await function(*args, **kwargs)
                finally:
                    self.note(ends)

            return waited

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            self.note(begins)
            try:
                return function(*args, **kwargs)
            finally:
                self.note(ends)

        return called


class _Finder(MetaPathFinder):
    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._by_module: dict[str, list[tuple[list[str], str]]] = {}
        for place, name in WATCHED.items():
            module, _, path = place.partition(":")
            self._by_module.setdefault(module, []).append((path.split("."), name))

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in self._by_module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Wrapping(spec.loader, self._marks, self._by_module[fullname])
        return spec


class _Wrapping(Loader):
    def __init__(self, loader: Any, marks: Marks, wanted: Sequence[tuple[list[str], str]]) -> None:
        self._loader = loader
        self._marks = marks
        self._wanted = wanted

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        for path, name in self._wanted:
            owner: Any = module
            for part in path[:-1]:
                owner = getattr(owner, part)
            function = getattr(owner, path[-1], None)
            if function is not None:
                setattr(owner, path[-1], self._marks.around(function, name))


def watch() -> None:
    """In a process whose environment names the folder."""
    folder = os.environ.get(FOLDER)
    if folder:
        sys.meta_path.insert(0, _Finder(Marks(Path(folder))))


@contextmanager
def hooked(folder: Path) -> Iterator[dict[str, str]]:
    """The environment for such processes."""
    here = Path(__file__).resolve()
    yield {FOLDER: str(folder), "PYTHONPATH": os.pathsep.join(map(str, (here.parent / "hooks", here.parents[1])))}


def noted(folder: Path) -> list[tuple[float, str]]:
    """All moments of all processes, in order."""
    lines = [line for file in folder.glob("*.marks") for line in file.read_text("utf-8").splitlines()]
    return sorted((float(moment), name) for moment, _, name in (line.partition("\t") for line in lines))
