"""One ONNX Runtime session: made once per model, shared by all threads, with fresh RunOptions per run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from fleet.errors import ModelError, RunStopped
from fleet.settings import CPU_PROVIDER
from worker.contract import Array, Tensor
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


@dataclass(frozen=True)
class SessionSetup:
    """How to make a session. `intra_op_threads` 0 leaves the count to ONNX Runtime."""

    providers: Sequence[str]
    intra_op_threads: int = 0
    #: Spinning threads are fastest alone and slow each other down when sessions share cores.
    spin: bool = True
    graph_optimization: str = "all"


class Session:
    """A loaded graph. Thread-safe."""

    def __init__(self, path: Path, setup: SessionSetup) -> None:
        """Raises ModelError `model-unloadable` when the graph cannot be loaded."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = setup.intra_op_threads
        options.graph_optimization_level = _OPTIMIZATION[setup.graph_optimization]
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if setup.spin else "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(path), options, providers=list(setup.providers))
        except Exception as error:
            raise ModelError(
                f"ONNX Runtime cannot load {path.name}: {_first_line(error)}", code="model-unloadable"
            ) from error
        self.inputs = tuple(_tensor(node) for node in self._session.get_inputs())
        self.outputs = tuple(_tensor(node) for node in self._session.get_outputs())
        self._output_names = [tensor.name for tensor in self.outputs]

    @property
    def provider(self) -> str:
        """The provider that is really in use, as the session tells after it was made."""
        providers: list[str] = self._session.get_providers()
        return providers[0] if providers else CPU_PROVIDER

    def run(self, feeds: Mapping[str, Array], stop: StopToken) -> dict[str, Array]:
        """Outputs by name. Raises RunStopped when the token is set, ModelError when the run fails."""
        options = ort.RunOptions()
        with stop.attached(options):
            try:
                values = self._session.run(self._output_names, dict(feeds), options)
            except Exception as error:
                stop.check()
                raise _run_error(error) from error
        # A token that was set in the last moment of the run ends the job here, not a window later.
        stop.check()
        return dict(zip(self._output_names, values, strict=True))


def _run_error(error: Exception) -> ModelError | RunStopped:
    text = _first_line(error)
    if "allocate memory" in text or "out of memory" in text.lower():
        return ModelError(f"the model ran out of memory: {text}", code="inference-out-of-memory")
    if "INVALID_ARGUMENT" in text or isinstance(error, ValueError | TypeError):
        return ModelError(f"the model does not take this input: {text}", code="inference-invalid-input")
    return ModelError(f"the model failed: {text}", code="inference-failed")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]


def _tensor(node: ort.NodeArg) -> Tensor:
    if node.type not in _DTYPES:
        raise ModelError(f"the tensor {node.name!r} is of type {node.type}, which Fleet does not serve")
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
    return Tensor(node.name, np.dtype(_DTYPES[node.type]), shape)
