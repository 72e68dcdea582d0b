"""A folder of models of chosen sizes, and a registry over it."""

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import helper

from tests.support.small_graphs import floats, save
from worker.engine.loaded import LoadedModel
from worker.engine.model_version import ModelVersion
from worker.engine.registry import Registry
from worker.engine.repository import Repository
from worker.engine.session import SessionSetup
from worker.tasks import find_tasks

MIB = 1024**2
CPU = SessionSetup(["CPUExecutionProvider"], intra_op_threads=1, spin=False)


def put_model(root: Path, name: str, mib: float = 1.0, *, pin: bool = False) -> None:
    """One matrix of so many MiB: y = x @ w, rows of 256."""
    folder = root / name / "1"
    folder.mkdir(parents=True)
    weights = np.ones((256, max(1, round(mib * MIB / 4 / 256))), np.float32)
    columns = weights.shape[1]
    save(
        folder / "model.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [floats("x", "n", 256)],
        [floats("y", "n", columns)],
        {"w": weights},
    )
    (folder.parent / "model.yaml").write_text(f"task: echo\npin: {str(pin).lower()}\n")


def feeds() -> dict[str, np.ndarray]:
    return {"x": np.ones((1, 256), np.float32)}


class Gate:
    """A hook of the registry that holds the loads of some models until it is opened."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, loaded: LoadedModel) -> None:
        if loaded.version.name in self.held:
            self.reached.set()
            assert self.opened.wait(30)


def registry_over(
    root: Path, setup: Callable[[ModelVersion], SessionSetup] = lambda version: CPU, **more: object
) -> Registry:
    # What earlier registries held would else be freed while the growth of this process is measured.
    gc.collect()
    return Registry(Repository(root, find_tasks()), setup, **more)  # type: ignore[arg-type]


class Task:
    """A function in a thread; `end` gives its result or raises what it raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._result: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 (raised again in `end`)
            self._error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> object:
        self._thread.join(30)
        assert not self.running
        if self._error is not None:
            raise self._error
        return self._result
