"""The same traces with real models in one process, through the registry that a worker has; and what loading does to
others.

Models are chains of matrices, a fortieth of the traces' sizes; requests come one after the other.
"""

import os
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cache_lab.traces import Trace
from worker.engine.device_memory import HostMemory
from worker.engine.eviction import Recency
from worker.engine.model_room import ModelRoom
from worker.engine.registry import Registry
from worker.engine.repository import Repository
from worker.engine.session import SessionSetup
from worker.memory.limit import held_bytes
from worker.memory.trim import trim
from worker.stop import StopToken
from worker.tasks import find_tasks

SHRUNK = 40
SIDE = 256
SETUP = SessionSetup(["CPUExecutionProvider"], intra_op_threads=2, spin=False)
FEEDS = {"x": np.ones((1, SIDE), np.float32)}


def write_model(root: Path, name: str, size: int) -> None:
    """So many bytes of weights in matrices of 256 by 256."""
    folder = root / name / "1"
    folder.mkdir(parents=True)
    depth = max(1, size // (4 * SIDE * SIDE))
    rng = np.random.default_rng(size)
    weights = [rng.normal(0, 0.05, (SIDE, SIDE)).astype(np.float32) for _ in range(depth)]
    names = ["x", *(f"h{n}" for n in range(depth - 1)), "y"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[n], f"w{n}"], [names[n + 1]]) for n in range(depth)],
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", SIDE])],
        [numpy_helper.from_array(weight, f"w{n}") for n, weight in enumerate(weights)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    (folder.parent / "model.yaml").write_text("task: echo\n")


@dataclass(frozen=True)
class Replayed:
    policy: str
    loads: int
    load_s: float
    p50_ms: float
    p95_ms: float
    #: Of the budget: what the registry counted at most, and what the process grew by at most.
    counted: float
    grown: float


def replay(root: Path, trace: Trace, budget: int, most: int) -> list[Replayed]:
    """With the worker's registry: LRU by count, LRU by bytes, ours."""
    rooms = {
        f"LRU by count ({most})": ModelRoom(HostMemory(budget, "the benchmark"), most_models=most),
        "LRU by bytes": ModelRoom(HostMemory(budget, "the benchmark"), policy=Recency()),
        "ours": ModelRoom(HostMemory(budget, "the benchmark")),
    }
    return [_replayed(root, trace, name, room, budget) for name, room in rooms.items()]


class _Seen:
    def __init__(self) -> None:
        self.loads = 0
        self.seconds = 0.0

    def model_loaded(self, model: str, seconds: float) -> None:
        self.loads += 1
        self.seconds += seconds

    def model_not_loaded(self, model: str, code: str) -> None:
        raise AssertionError(f"{model} was not loaded: {code}")

    def model_gone(self, model: str, why: str) -> None:
        pass


def _replayed(root: Path, trace: Trace, policy: str, room: ModelRoom, budget: int) -> Replayed:
    seen = _Seen()
    registry = Registry(Repository(root, find_tasks()), lambda version: SETUP, room=room, seen=seen)
    trim()
    before, waits, counted, grown = held_bytes(os.getpid()), [], 0, 0
    for model in trace.requests:
        began = time.perf_counter()
        with registry.leased(f"m{model}", 1) as loaded:
            loaded.for_run(StopToken()).run(FEEDS)
        waits.append(time.perf_counter() - began)
        counted = max(counted, registry.held_bytes)
        grown = max(grown, held_bytes(os.getpid()) - before)
    registry.clear()
    p50, p95 = (1e3 * value for value in np.percentile(waits, [50, 95]))
    return Replayed(policy, seen.loads, seen.seconds, p50, p95, counted / budget, grown / budget)


@dataclass(frozen=True)
class Beside:
    """Milliseconds of one model's requests, a few a second, while others load and while none does."""

    alone_p50: float
    alone_p95: float
    loading_p50: float
    loading_p95: float
    loads: int


def beside_loads(root: Path, served: str, loading: str, seconds: float) -> Beside:
    registry = Registry(Repository(root, find_tasks()), lambda version: SETUP)
    registry.load(served, 1)
    over, loads = threading.Event(), 0
    alone = _served(registry, served, seconds)

    def load() -> None:
        nonlocal loads
        while not over.is_set():
            registry.load(loading, 1)
            registry.unload(f"{loading}/1", on_demand=True)
            loads += 1

    thread = threading.Thread(target=load)
    thread.start()
    beside = _served(registry, served, seconds)
    over.set()
    thread.join()
    registry.clear()
    return Beside(*_percentiles(alone), *_percentiles(beside), loads)


def _served(registry: Registry, name: str, seconds: float) -> list[float]:
    waits, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        with registry.leased(name, 1) as loaded:
            loaded.for_run(StopToken()).run(FEEDS)
        waits.append(time.perf_counter() - began)
        time.sleep(0.005)
    return waits


def _percentiles(waits: list[float]) -> tuple[float, float]:
    return 1e3 * statistics.median(waits), 1e3 * float(np.percentile(waits, 95))


def cycles(root: Path, name: str, count: int) -> tuple[int, int, int]:
    """Resident bytes of the process before any, with the model loaded, and after so many loads and unloads."""
    registry = Registry(Repository(root, find_tasks()), lambda version: SETUP)

    def once() -> int:
        with registry.leased(name, 1) as loaded:
            shape = [size if size > 0 else 1 for size in loaded.session.inputs[0].shape]
            loaded.for_run(StopToken()).run({loaded.session.inputs[0].name: np.zeros(shape, np.float32)})
            held = held_bytes(os.getpid())
        registry.unload(f"{name}/1", on_demand=True)
        return held

    once()
    trim()
    before = held_bytes(os.getpid())
    loaded = max(once() for _ in range(count))
    trim()
    return before, loaded, held_bytes(os.getpid())
