"""The device of a worker process: one GPU or the CPU, proven before anything is promised."""

import platform
from dataclasses import dataclass

from fleet.contracts import Pool
from fleet.errors import NoCapableWorker
from fleet.settings import CPU_PROVIDER, GPU_PROVIDERS, Settings, usable_cpus
from worker.engine.providers import Providers, prove_providers


@dataclass(frozen=True)
class Device:
    #: For people: "cpu x86_64, 2 cores" or "cuda:0".
    name: str
    pool: Pool
    providers: Providers
    #: How many jobs run at once.
    concurrency: int
    intra_op_threads: int


def prove_device(settings: Settings, concurrency: int) -> Device:
    """Finds the providers that really work. Raises NoCapableWorker when a GPU was promised and is not usable."""
    providers = prove_providers(settings.effective_onnx_providers)
    promised_gpu = settings.declared_pool is Pool.GPU
    if promised_gpu and not providers.is_gpu:
        reasons = "; ".join(f"{name}: {why}" for name, why in providers.refused.items())
        raise NoCapableWorker(
            f"WORKER_POOL=gpu promises a GPU, but no GPU provider works here ({reasons or 'none was requested'}): "
            "install onnxruntime-gpu with its CUDA libraries, or set WORKER_POOL=cpu",
            code="gpu-unusable",
        )
    on_gpu = providers.is_gpu and settings.declared_pool is not Pool.CPU
    cores = usable_cpus()
    if not on_gpu:
        working = [name for name in providers.using if name not in GPU_PROVIDERS]
        providers = Providers(providers.requested, providers.available, working or [CPU_PROVIDER], providers.refused)
    return Device(
        name="cuda:0" if on_gpu else f"cpu {platform.machine()}, {cores} cores",
        pool=Pool.GPU if on_gpu else Pool.CPU,
        providers=providers,
        concurrency=concurrency,
        intra_op_threads=settings.onnx_intra_op_threads or cores,
    )
