"""The memory that loaded models share: how much there is of it, and how much is held.

On a CPU, and on a simulated GPU, it is a part of the process's own; on a GPU the device's, as NVIDIA's libraries tell.
"""

import ctypes
import os
import uuid
from typing import Protocol

from fleet.errors import NoCapableWorker
from worker.memory.limit import GIB, held_bytes

_CUDA, _NVML = "libcuda.so.1", "libnvidia-ml.so.1"
_SUCCESS = 0


class DeviceMemory(Protocol):
    #: For people: where the limit comes from.
    limited_by: str
    #: Whether it is a device's: others hold of it too, and what a run takes stays with its session.
    of_device: bool

    @property
    def limit_bytes(self) -> int:
        """What models may take when nobody else uses it."""
        ...

    def held_bytes(self) -> int:
        """What is held of it now: by this process, or on a device by anybody."""
        ...


class HostMemory:
    """The part of this process's memory that is for models."""

    of_device = False

    def __init__(self, limit_bytes: int, limited_by: str) -> None:
        self.limit_bytes = limit_bytes
        self.limited_by = limited_by

    def held_bytes(self) -> int:
        return held_bytes(os.getpid())


class _Usage(ctypes.Structure):
    """nvmlMemory_t"""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class GpuMemory:
    """That of the first GPU which CUDA shows to this process.

    Sources: docs.nvidia.com/deploy/nvml-api, docs.nvidia.com/cuda/cuda-driver-api. What a single process holds is not
    told inside a container, hence the device's.
    """

    of_device = True

    def __init__(self, margin_gb: float) -> None:
        """Raises NoCapableWorker `gpu-unusable` when the libraries do not tell."""
        self.limited_by = f"the GPU's memory less CACHE_VRAM_SAFETY_MARGIN_GB={margin_gb:g}"
        self._nvml = _library(_NVML)
        self._handle = ctypes.c_void_p()
        self._ask("nvmlInit_v2")
        self._ask("nvmlDeviceGetHandleByUUID", ctypes.c_char_p(_uuid().encode()), ctypes.byref(self._handle))
        self.limit_bytes = max(0, int(self._usage().total) - round(margin_gb * GIB))

    def held_bytes(self) -> int:
        return int(self._usage().used)

    def _usage(self) -> _Usage:
        usage = _Usage()
        self._ask("nvmlDeviceGetMemoryInfo", self._handle, ctypes.byref(usage))
        return usage

    def _ask(self, name: str, *values: object) -> None:
        _call(self._nvml, name, *values)


def _uuid() -> str:
    cuda, device, found = _library(_CUDA), ctypes.c_int(), (ctypes.c_ubyte * 16)()
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    _call(cuda, "cuDeviceGetUuid", ctypes.byref(found), device)
    return f"GPU-{uuid.UUID(bytes=bytes(found))}"


def _library(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise NoCapableWorker(f"the GPU's memory cannot be asked for: {error}", code="gpu-unusable") from error


def _call(library: ctypes.CDLL, name: str, *values: object) -> None:
    status = int(getattr(library, name)(*values))
    if status != _SUCCESS:
        raise NoCapableWorker(f"the GPU's memory cannot be asked for: {name} says {status}", code="gpu-unusable")
