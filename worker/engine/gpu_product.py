"""What the GPU of this process is called, asked of NVIDIA's driver: no library besides it is needed."""

import ctypes

#: Where the driver does not say.
UNKNOWN = "gpu"
_NAME_BYTES = 256


def gpu_product() -> str:
    """The product name of the first GPU that CUDA shows to this process, for instance "NVIDIA H200"."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return UNKNOWN
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    # https://docs.nvidia.com/cuda/cuda-driver-api: each returns 0 when it succeeded.
    if (
        cuda.cuInit(0) != 0
        or cuda.cuDeviceGet(ctypes.byref(device), 0) != 0
        or cuda.cuDeviceGetName(name, _NAME_BYTES, device) != 0
    ):
        return UNKNOWN
    return name.value.decode("ascii", "replace") or UNKNOWN
