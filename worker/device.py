"""The device of a worker process: one GPU or the CPU, proven before anything is promised."""

import platform
from dataclasses import dataclass

from fleet.contracts import Pool
from fleet.cost import CPU_KIND
from fleet.cpus import usable_cpus
from fleet.errors import NoCapableWorker
from fleet.logs import get_logger
from fleet.settings import CPU_PROVIDER, GPU_PROVIDERS, Settings
from worker.concurrency import threads_of_session
from worker.engine.cores import MOST_THREADS
from worker.engine.gpu_product import gpu_product
from worker.engine.providers import Providers, prove_providers

log = get_logger(__name__)


@dataclass(frozen=True)
class Device:
    #: For people: "cpu x86_64, 2 cores" or "cuda:0".
    name: str
    pool: Pool
    providers: Providers
    #: How many jobs run at once.
    concurrency: int
    intra_op_threads: int
    #: Of a session whose runs come one after the other, as those of a batched model do; 0: the same.
    threads_of_batches: int = 0
    #: Of a run that no other runs beside; 0: the same.
    lone_threads: int = 0
    #: What service times are learned by: "cpu", or the product name of the GPU.
    kind: str = CPU_KIND
    #: A CPU that plays a GPU, for trials of a fleet of both kinds.
    simulated: bool = False
    #: How many times as fast as this CPU the simulated GPU pretends to be. Real runs can only be slowed down.
    speed: float = 1.0


def prove_device(settings: Settings, concurrency: int) -> Device:
    """Finds the providers that really work. Raises NoCapableWorker when a GPU was promised and is not usable."""
    providers = prove_providers(settings.effective_onnx_providers)
    if settings.simulated_gpu:
        return _simulated_gpu(settings, providers, concurrency)
    promised_gpu = settings.declared_pool is Pool.GPU
    if promised_gpu and not providers.is_gpu:
        reasons = "; ".join(f"{name}: {why}" for name, why in providers.refused.items() if name != CPU_PROVIDER)
        raise NoCapableWorker(
            f"{_promise(settings)} promises a GPU, but none can be used here ({reasons or 'none was requested'}): "
            "mend that, or set WORKER_POOL=cpu and INFERENCE_DEVICE=cpu",
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
        intra_op_threads=settings.onnx_intra_op_threads or threads_of_session(concurrency, cores),
        threads_of_batches=settings.onnx_intra_op_threads or cores,
        lone_threads=0 if on_gpu or settings.onnx_intra_op_threads else min(cores, MOST_THREADS),
        kind=gpu_product() if on_gpu else CPU_KIND,
    )


def _promise(settings: Settings) -> str:
    return "WORKER_POOL=gpu" if settings.worker_pool == "gpu" else f"INFERENCE_DEVICE={settings.inference_device}"


def _simulated_gpu(settings: Settings, providers: Providers, concurrency: int) -> Device:
    speed = settings.simulated_gpu_speed
    log.warning("this worker only plays a GPU: its runs are on the CPU, and marked as simulated", speed=speed)
    return Device(
        name=f"simulated-gpu (cpu {platform.machine()}, {usable_cpus()} cores)",
        pool=Pool.GPU,
        providers=providers,
        concurrency=concurrency,
        intra_op_threads=settings.onnx_intra_op_threads or threads_of_session(concurrency, usable_cpus()),
        threads_of_batches=settings.onnx_intra_op_threads or usable_cpus(),
        kind="simulated-gpu",
        simulated=True,
        speed=speed,
    )
