"""Models for tests: a real graph through ONNX Runtime, and a plain function in a model's place."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from fleet.contracts import Stage
from worker.contract import Array, Parts, Progress, Shapes, Tensor
from worker.memory.room import ArrayRoom
from worker.progress import NothingKept

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class OrtModel:
    """`worker.contract.Model` over an ONNX Runtime session on the CPU."""

    def __init__(self, path: Path, settings: Any, labels: Mapping[int, str], threads: int = 2) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.name, self.version, self.provider = path.parent.parent.name, 1, "CPUExecutionProvider"
        self.settings, self.labels = settings, labels
        self.inputs = tuple(map(_tensor, self.session.get_inputs()))
        self.outputs = tuple(map(_tensor, self.session.get_outputs()))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [output.name for output in self.outputs]
        return dict(zip(names, self.session.run(names, dict(feeds)), strict=True))

    def pretend(self, cpu_s: float) -> None:
        pass

    def run_bytes(self, shapes: Shapes, weigh_with: Progress | None = None) -> int:
        return 0


def _tensor(node: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Tensor(node.name, np.dtype(_DTYPES[node.type]), shape)


@dataclass
class FunctionModel:
    """A function [1, 1, D, H, W] -> [1, C, D, H, W] as a model."""

    function: Callable[[Array], Array]
    settings: Any
    labels: Mapping[int, str]
    name: str = "function"
    version: int = 1
    provider: str = "CPUExecutionProvider"
    inputs: tuple[Tensor, ...] = (Tensor("image", np.dtype(np.float32), (-1, 1, -1, -1, -1)),)
    outputs: tuple[Tensor, ...] = (Tensor("scores", np.dtype(np.float32), (-1, -1, -1, -1, -1)),)
    fed: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.fed.append(feeds["image"].shape)
        return {"scores": self.function(feeds["image"])}

    def pretend(self, cpu_s: float) -> None:
        pass

    def run_bytes(self, shapes: Shapes, weigh_with: Progress | None = None) -> int:
        return 0


@dataclass
class RecordedProgress:
    """Keeps what a task reports; `stop` makes the next check raise it."""

    stages: list[Stage] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    stop: Exception | None = None
    #: Where the next run's large arrays go, and what it asked for.
    room: ArrayRoom = field(default_factory=ArrayRoom)
    asked: list[tuple[int, int | None]] = field(default_factory=list)
    memory_bytes: int = sys.maxsize
    folder: Path = Path("/nowhere")
    #: What `parts` gives, and what it was told.
    kept: Parts = field(default_factory=lambda: NothingKept(""))
    hinges_on: str = ""

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        self.stages.append(stage)
        yield

    def advance(self, done: int, total: int) -> None:
        self.steps.append((done, total))

    def check(self) -> None:
        if self.stop is not None:
            raise self.stop

    def admit(self, what: str, peak_bytes: int, *, lean_bytes: int | None = None, scratch_bytes: int = 0) -> ArrayRoom:
        self.asked.append((peak_bytes, lean_bytes))
        return self.room

    def admit_all(self) -> int:
        return self.memory_bytes

    def parts(self, hinges_on: str) -> Parts:
        self.hinges_on = hinges_on
        return self.kept
