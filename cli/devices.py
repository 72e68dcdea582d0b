"""The devices that `fleet work` starts processes for. Looked for from outside: no runtime is loaded to find a GPU.

Numbers of GPUs are those of `nvidia-smi`. A process is given its GPU by UUID, since CUDA may count in another order.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from fleet.contracts import Pool
from fleet.errors import ValidationFailed
from fleet.settings import CPU_PROVIDER, GPU_PROVIDERS, Settings

#: The first call after the start of a machine may have to load the driver.
_NVIDIA_SMI_S = 30.0
_CUDA_LIBRARY = Path("capi", "libonnxruntime_providers_cuda.so")


@dataclass(frozen=True)
class Gpu:
    """One that CUDA would show to a process of this environment."""

    label: str
    #: As CUDA_VISIBLE_DEVICES takes it.
    uuid: str
    name: str


@dataclass(frozen=True)
class WorkDevice:
    """What a process is to run on. `environment` tells the process so."""

    label: str
    pool: Pool
    about: str
    environment: Mapping[str, str] = field(default_factory=dict)


def visible_gpus(environment: Mapping[str, str]) -> list[Gpu]:
    """Those of `nvidia-smi` that CUDA_VISIBLE_DEVICES leaves; none where there is no driver."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    found = [] if visible is not None and not visible.strip() else _all_gpus(environment)
    if visible is None:
        return found
    chosen: list[Gpu] = []
    for word in (part.strip() for part in visible.split(",")):
        gpu = _named(word, found, len(chosen))
        # As CUDA does: what comes after a name that it does not know is not visible either.
        if gpu is None or gpu in chosen:
            break
        chosen.append(gpu)
    return chosen


def cuda_is_built_in() -> bool:
    """Whether the installed ONNX Runtime is one for CUDA, told by its files alone."""
    spec = find_spec("onnxruntime")
    return spec is not None and spec.origin is not None and (Path(spec.origin).parent / _CUDA_LIBRARY).is_file()


def work_devices(
    settings: Settings, asked: Sequence[str], gpus: Sequence[Gpu], *, cuda_built_in: bool
) -> tuple[list[WorkDevice], list[str]]:
    """The devices, and notes on what was left out.

    `asked` are words like `cuda:1`, `cuda`, `cpu`, `simulated-gpu`; when it is empty the settings decide, and where
    they leave it open, each GPU that this installation can use, else the CPU. A GPU that is asked for is promised
    without being seen: its process proves it, or ends and says what is missing.

    Raises ValidationFailed `invalid-device`.
    """
    notes: list[str] = []
    words = list(asked) or [_wanted(settings, gpus, notes, cuda_built_in=cuda_built_in)]
    devices: list[WorkDevice] = []
    for word in words:
        devices += _devices_of(word, settings, gpus, simulated=sum(d.label.startswith("simulated") for d in devices))
    if len({device.label for device in devices}) < len(devices):
        raise ValidationFailed(f"--device names a device twice: {', '.join(words)}", code="invalid-device")
    return devices, notes


def _wanted(settings: Settings, gpus: Sequence[Gpu], notes: list[str], *, cuda_built_in: bool) -> str:
    if settings.simulated_gpu:
        return settings.inference_device
    if settings.declared_pool is not None:
        return "cuda" if settings.declared_pool is Pool.GPU else "cpu"
    if not gpus or not GPU_PROVIDERS.intersection(settings.effective_onnx_providers):
        return "cpu"
    if cuda_built_in:
        return "cuda"
    notes.append(
        f"{len(gpus)} GPU(s) are here ({gpus[0].name}), but the installed onnxruntime is built for CPUs: working on "
        "the CPU; install onnxruntime-gpu in its place to use them"
    )
    return "cpu"


def _devices_of(word: str, settings: Settings, gpus: Sequence[Gpu], *, simulated: int) -> list[WorkDevice]:
    kind, _, number = word.partition(":")
    if word == "cpu":
        return [_cpu(settings)]
    if word == "simulated-gpu":
        told = {"WORKER_POOL": "gpu", "INFERENCE_DEVICE": "simulated-gpu"}
        about = f"plays a GPU on the CPU, speed {settings.simulated_gpu_speed:g}"
        return [WorkDevice(f"simulated{simulated}", Pool.GPU, about, told)]
    if word == "cuda":
        return [_cuda(gpu) for gpu in gpus] or [_cuda(None)]
    if kind == "cuda" and number.isdecimal():
        return [_cuda(_numbered(word, f"gpu{int(number)}", gpus))]
    raise ValidationFailed(
        f"--device {word!r} is none of auto, cpu, cuda, cuda:0, cuda:1, ..., simulated-gpu", code="invalid-device"
    )


def _cpu(settings: Settings) -> WorkDevice:
    # INFERENCE_DEVICE=cpu would leave out other providers of the processor that the user asked for.
    others = set(settings.onnx_providers) - GPU_PROVIDERS - {CPU_PROVIDER}
    told = {"WORKER_POOL": "cpu", "INFERENCE_DEVICE": "auto" if others else "cpu"}
    return WorkDevice("cpu", Pool.CPU, "the processor", told)


def _cuda(gpu: Gpu | None) -> WorkDevice:
    told = {"WORKER_POOL": "gpu", "INFERENCE_DEVICE": "cuda"}
    if gpu is None:
        return WorkDevice("gpu0", Pool.GPU, "a GPU that nvidia-smi does not show", told)
    return WorkDevice(gpu.label, Pool.GPU, f"{gpu.name}, {gpu.uuid}", told | {"CUDA_VISIBLE_DEVICES": gpu.uuid})


def _numbered(word: str, label: str, gpus: Sequence[Gpu]) -> Gpu:
    for gpu in gpus:
        if gpu.label == label:
            return gpu
    seen = ", ".join(f"cuda:{gpu.label.removeprefix('gpu')}" for gpu in gpus) or "none"
    raise ValidationFailed(f"--device {word}: nvidia-smi shows no such GPU (visible: {seen})", code="invalid-device")


def _all_gpus(environment: Mapping[str, str]) -> list[Gpu]:
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return []
    try:
        told = subprocess.run(
            [program, "--query-gpu=index,uuid,name", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if told.returncode != 0:
        return []
    rows = [[cell.strip() for cell in line.split(",", 2)] for line in told.stdout.splitlines()]
    return [Gpu(f"gpu{index}", uuid, name) for index, uuid, name in (row for row in rows if len(row) == 3)]


def _named(word: str, gpus: Sequence[Gpu], before: int) -> Gpu | None:
    """By number, by UUID or the beginning of one; a slice of a GPU is taken at its word."""
    if word.startswith("MIG-"):
        return Gpu(f"mig{before}", word, "a slice of a GPU")
    matching = [
        gpu
        for gpu in gpus
        if (gpu.label == f"gpu{word}" if word.isdecimal() else word.startswith("GPU-") and gpu.uuid.startswith(word))
    ]
    return matching[0] if len(matching) == 1 else None
