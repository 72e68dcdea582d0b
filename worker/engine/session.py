"""One ONNX Runtime session: made once per model, shared by all threads, with fresh RunOptions per run."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from fleet.errors import ModelError, NoCapableWorker, RunStopped
from fleet.logs import get_logger
from fleet.settings import CPU_PROVIDER, GPU_PROVIDERS
from worker.contract import Array, Tensor
from worker.engine.appetite import Appetite
from worker.engine.cores import Cores, Lengths
from worker.engine.cuda_faults import GPU_LOST, is_poison
from worker.memory.limit import held_bytes
from worker.memory.trim import trim
from worker.stop import StopToken

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
_OPTIMIZATION = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
log = get_logger(__name__)


@dataclass(frozen=True)
class SessionSetup:
    """How to make a session; its fields are plain, so that a process can tell them to another one."""

    #: In order of preference, the CPU's last where it may run there.
    providers: Sequence[str]
    #: By provider; checked (see provider_options.py).
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: 0 leaves the count to ONNX Runtime.
    intra_op_threads: int = 0
    #: Of a run that no other runs beside; 0: as many as of the others.
    lone_threads: int = 0
    #: Used when `parallel`; 0 leaves the count to ONNX Runtime.
    inter_op_threads: int = 0
    #: Whether branches of the graph run at once.
    parallel: bool = False
    #: Spinning threads are fastest alone and slow each other down when sessions share cores.
    spin: bool = True
    graph_optimization: str = "all"
    #: Entries of the session's configuration; checked.
    config: Mapping[str, str] = field(default_factory=dict)
    #: For people: why these providers.
    why: str = ""
    #: For people: what was asked for and is not used, and why not. Empty when all is as asked.
    fallback: str = ""

    def options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        # Planned for a whole run, memory is neither reused between shapes nor freed: a third more for no speed.
        options.enable_mem_pattern = False
        options.intra_op_num_threads = self.intra_op_threads
        options.inter_op_num_threads = self.inter_op_threads
        if self.parallel:
            options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
        options.graph_optimization_level = _OPTIMIZATION[self.graph_optimization]
        own = {
            "session.intra_op.allow_spinning": "1" if self.spin else "0",
            "session.inter_op.allow_spinning": "1" if self.spin else "0",
            # Else the threads of one model spin on for a while under the run of the next: three times as long.
            "session.force_spinning_stop": "1",
            # The process's arena (arena.py), where it has made one.
            "session.use_env_allocators": "1",
        }
        for name, value in (own | dict(self.config)).items():
            options.add_session_config_entry(name, value)
        options.log_severity_level = 3
        return options

    def told_providers(self) -> list[tuple[str, dict[str, str]]]:
        return [(name, dict(self.provider_options.get(name, {}))) for name in self.providers]


class Session:
    """A loaded graph. Thread-safe."""

    def __init__(
        self,
        path: Path,
        setup: SessionSetup,
        alone: Callable[[], bool] = lambda: True,
        cores: Cores | None = None,
    ) -> None:
        """alone: whether what this process holds is that of one run only. cores: without them no run has them alone.

        Raises ModelError `model-unloadable` when the graph cannot be loaded.
        """
        self._alone = alone
        self._cores = cores or Cores()
        self._lock = threading.Lock()
        self._running = 0
        #: Whether a run has taken the device's context with it.
        self.device_lost = False
        #: Whether nothing is kept of earlier runs.
        self._fresh = True
        self._session = _opened(path, setup)
        self.inputs = tuple(_tensor(node) for node in self._session.get_inputs())
        self.outputs = tuple(_tensor(node) for node in self._session.get_outputs())
        self._output_names = [tensor.name for tensor in self.outputs]
        self._provider: str = next(iter(self._session.get_providers()), CPU_PROVIDER)
        # The threads of a session are all its runs', so runs of another number of threads need another one.
        self._wide: Any = None
        self._lengths = Lengths()
        if cores is not None and setup.lone_threads > setup.intra_op_threads > 0 and self.provider == CPU_PROVIDER:
            try:
                self._wide = _opened(path, replace(setup, intra_op_threads=setup.lone_threads))
            except ModelError as error:
                log.warning("runs that are alone get no more threads", graph=path.name, reason=error.message)
        self.appetite = Appetite(on_device=self.provider in GPU_PROVIDERS)
        self.fallback = setup.fallback or _fallback(setup.providers[0], self.provider)

    @property
    def provider(self) -> str:
        """The provider that is really in use, as the session told after it was made."""
        return self._provider

    def run(self, feeds: Mapping[str, Array], stop: StopToken) -> dict[str, Array]:
        """Outputs by name.

        Raises RunStopped when the token is set, ModelError when the run fails, and NoCapableWorker `gpu-lost` when it
        took the device's context with it: no run after it can succeed in this process.
        """
        options = ort.RunOptions()
        elements = sum(feed.size for feed in feeds.values())
        run = self._observed if self.appetite.is_curious(elements) and self._alone() else self._run
        with stop.attached(options), self._cores.taken() as lone:
            wide = self._wide if lone and self._lengths.are_long(elements) else None
            self._count(1)
            began = time.monotonic()
            try:
                values = run(wide or self._session, feeds, options)
            except Exception as error:
                stop.check()
                fault = _run_error(error, self.provider)
                self.device_lost = self.device_lost or fault.code == GPU_LOST
                raise fault from error
            finally:
                self._count(-1)
        if wide is None:
            self._lengths.learn(elements, time.monotonic() - began)
        # A token that was set in the last moment of the run ends the job here, not a window later.
        stop.check()
        return dict(zip(self._output_names, values, strict=True))

    def shrink(self) -> None:
        """Gives back what earlier runs needed, unless one is under way; ONNX Runtime keeps it for the next one."""
        with self._lock:
            if not self._running and self._session is not None:
                self._shrink()

    def close(self) -> None:
        """Gives all its memory back now, whoever still holds this object; no run may be under way or follow."""
        with self._lock:
            if self._session is not None:
                self._shrink_arena()
                self._session = self._wide = None
        trim()

    def _count(self, change: int) -> None:
        with self._lock:
            self._running += change

    def _shrink(self) -> None:
        self._shrink_arena()
        trim()
        self._fresh = True

    def _shrink_arena(self) -> None:
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        # A run that ends before its first node: what matters happens after it.
        options.terminate = True
        feeds = {tensor.name: np.zeros([max(size, 1) for size in tensor.shape], tensor.dtype) for tensor in self.inputs}
        for session in (self._session, self._wide):
            try:
                if session is not None:
                    session.run(self._output_names, feeds, options)
            except Exception as error:  # noqa: BLE001 (it says that it was ended, as it should)
                log.debug("memory given back", answer=_first_line(error))

    def _run(self, session: Any, feeds: Mapping[str, Array], options: Any) -> list[Array]:
        self._fresh = False
        values: list[Array] = session.run(self._output_names, dict(feeds), options)
        return values

    def _observed(self, session: Any, feeds: Mapping[str, Array], options: Any) -> list[Array]:
        """The same, watched: what the process has grown by is kept for runs to come."""
        elements = sum(feed.size for feed in feeds.values())
        if self.appetite.is_new(elements):
            self._shrink()
        fresh, before = self._fresh, held_bytes(os.getpid())
        values = self._run(session, feeds, options)
        grown = held_bytes(os.getpid()) - before
        if self._alone():
            outputs = sum(value.nbytes for value in values if hasattr(value, "nbytes"))
            self.appetite.learn(elements, grown, outputs, fresh=fresh)
        return values


def _opened(path: Path, setup: SessionSetup) -> Any:
    try:
        return ort.InferenceSession(str(path), setup.options(), providers=setup.told_providers())
    except Exception as error:
        raise ModelError(
            f"ONNX Runtime cannot load {path.name}: {_first_line(error)}", code="model-unloadable"
        ) from error


def _run_error(error: Exception, provider: str) -> ModelError | RunStopped | NoCapableWorker:
    text = _first_line(error)
    if provider in GPU_PROVIDERS and is_poison(text):
        return NoCapableWorker(f"the GPU failed under the model: {text}", code=GPU_LOST)
    if any(sign in text.lower() for sign in ("allocate memory", "out of memory", "bad_alloc", "available memory")):
        return ModelError(f"the model ran out of memory: {text}", code="inference-out-of-memory")
    if "INVALID_ARGUMENT" in text or isinstance(error, ValueError | TypeError):
        return ModelError(f"the model does not take this input: {text}", code="inference-invalid-input")
    return ModelError(f"the model failed: {text}", code="inference-failed")


def _fallback(asked: str, using: str) -> str:
    if asked == using:
        return ""
    return f"asked for {asked}, using {using}: ONNX Runtime made a session without it, since it did not start"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]


def _tensor(node: ort.NodeArg) -> Tensor:
    if node.type not in _DTYPES:
        raise ModelError(f"the tensor {node.name!r} is of type {node.type}, which Fleet does not serve")
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
    return Tensor(node.name, np.dtype(_DTYPES[node.type]), shape)
