"""Why CUDA cannot be used here, in words: what ONNX Runtime was built with, and what the system's loader says.

When a library is missing, ONNX Runtime makes a session for the CPU and tells standard error. The sentence that helps,
"libcudnn.so.9: cannot open shared object file", is the loader's, so the loader is asked again.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort

#: In every build of ONNX Runtime for CUDA, and in no other.
PROVIDER_LIBRARY = "libonnxruntime_providers_cuda.so"
_SHARED_LIBRARY = "libonnxruntime_providers_shared.so"
_DRIVER = "libcuda.so.1"
_CUDA_SUCCESS = 0
_NO_DEVICE = 100
#: The code of the error that a run ends with then.
GPU_LOST = "gpu-lost"
#: After any of these the process's CUDA context is gone, and every further run in it fails.
_POISON = (
    "cuda failure",
    "cudnn failure",
    "cublas failure",
    "cudaerror",
    "cuda error",
    "cudnn_status",
    "cublas_status",
)
_NO_ROOM = ("out of memory", "failed to allocate memory", "alloc_failed")

Load = Callable[[str], object]


def cuda_fault(capi: Path | None = None, load: Load | None = None) -> str | None:
    """The first thing that is missing, in one sentence; None when build, driver and libraries are there.

    `capi` is the folder of ONNX Runtime's libraries, `load` loads one by name or path and raises OSError.
    """
    folder = capi or Path(ort.__file__).parent / "capi"
    load = load or _load
    if not (folder / PROVIDER_LIBRARY).is_file():
        return "the installed onnxruntime is not built for CUDA: install onnxruntime-gpu in its place"
    try:
        driver = load(_DRIVER)
    except OSError as error:
        return f"no NVIDIA driver is here: {error}"
    try:
        # The provider takes symbols from it.
        load(str(folder / _SHARED_LIBRARY))
        load(str(folder / PROVIDER_LIBRARY))
    except OSError as error:
        return f"a library that CUDA needs is missing or does not fit: {error}"
    return _driver_fault(driver)


def is_poison(message: str) -> bool:
    """Whether a failed run has taken the CUDA context with it. Lack of GPU memory has not."""
    text = message.lower()
    return any(word in text for word in _POISON) and not any(word in text for word in _NO_ROOM)


def _load(name: str) -> object:
    return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)


def _driver_fault(driver: object) -> str | None:
    begin = getattr(driver, "cuInit", None)
    code = _CUDA_SUCCESS if begin is None else int(begin(0))
    if code == _CUDA_SUCCESS:
        return None
    return f"the NVIDIA driver finds no GPU that it can use (cuInit says {code})" + (
        ": none is here, or CUDA_VISIBLE_DEVICES hides it" if code == _NO_DEVICE else ""
    )
