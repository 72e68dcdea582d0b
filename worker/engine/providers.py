"""Execution providers: requested ∩ really working.

What ONNX Runtime lists as available only says how it was built. A provider counts when a session made with it
really uses it and runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnxruntime as ort

from fleet.errors import ModelError
from fleet.logs import get_logger
from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, GPU_PROVIDERS, TENSORRT_PROVIDER
from worker.engine.cuda_faults import cuda_fault

log = get_logger(__name__)

#: A graph of one node, y = Identity(x), float32 [n], opset 17. `models/echo/1/model.onnx` is the same graph.
PROBE_GRAPH = bytes.fromhex(
    "080812003a3c0a100a017812017922084964656e7469747912046563686f5a100a0178120b0a09080112050a0312016e"
    "62100a0179120b0a09080112050a0312016e42040a001011"
)


@dataclass(frozen=True)
class Providers:
    """What was asked for, what the build has, what works (best first), and why the others do not."""

    requested: list[str]
    available: list[str]
    using: list[str]
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> str:
        return self.using[0]

    @property
    def is_gpu(self) -> bool:
        return self.best in GPU_PROVIDERS


def prove_providers(requested: Sequence[str]) -> Providers:
    """Tries each requested provider on a real session and logs the outcome in three lines.

    Raises ModelError `no-execution-provider` when not even one works.
    """
    found = find_providers(requested)
    log.info(f"ONNX providers requested: {found.requested}")
    log.info(f"ONNX providers available: {found.available}")
    log.info(f"ONNX providers using: {found.using}")
    for name, fault in found.refused.items():
        log.warning("execution provider cannot be used", provider=name, reason=fault)
    if not found.using:
        raise ModelError(
            f"none of the execution providers {found.requested} works here: {found.refused}",
            code="no-execution-provider",
        )
    return found


def find_providers(requested: Sequence[str]) -> Providers:
    """Tries each requested provider on a real session."""
    available = list(ort.get_available_providers())
    faults = {name: _fault_of(name, available) for name in requested}
    using = [name for name, fault in faults.items() if fault is None]
    refused = {name: fault for name, fault in faults.items() if fault is not None}
    return Providers(list(requested), available, using, refused)


def _fault_of(name: str, available: Sequence[str]) -> str | None:
    """Why a provider does not work, in words; None when it does."""
    if name not in available:
        advice = ": install onnxruntime-gpu in its place" if name in GPU_PROVIDERS else ""
        return f"this build of onnxruntime ({ort.__version__}) does not have it{advice}"
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a failed attempt is reported by us, in words
    providers = [name] if name == CPU_PROVIDER else [name, CPU_PROVIDER]
    try:
        session = ort.InferenceSession(PROBE_GRAPH, options, providers=providers)
        if session.get_providers()[0] != name:
            return _cause(name) or "a session made with it fell back to the CPU: a driver or library is missing"
        session.run(None, {"x": np.ones(1, np.float32)})
    except Exception as error:  # noqa: BLE001 (ONNX Runtime raises whatever its providers raise)
        return _cause(name) or str(error).splitlines()[0][:500]
    return None


def _cause(name: str) -> str | None:
    return cuda_fault() if name in (CUDA_PROVIDER, TENSORRT_PROVIDER) else None
