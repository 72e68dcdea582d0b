"""Which room the models of a worker have: what the settings say, on the device that it has."""

from fleet.errors import NoCapableWorker
from fleet.logs import get_logger
from fleet.settings import Settings
from worker.device import Device
from worker.engine.device_memory import DeviceMemory, GpuMemory, HostMemory
from worker.engine.model_room import ModelRoom
from worker.memory.limit import GIB, MIB

log = get_logger(__name__)


def model_room(settings: Settings, device: Device, usable_bytes: int) -> ModelRoom:
    """`usable_bytes`: of the processor's memory, what the process and all its runs may use."""
    memory: DeviceMemory = _host_memory(settings, usable_bytes)
    most = settings.cache_max_models if settings.cache_strategy == "fixed_size" else None
    if device.providers.is_gpu and not device.simulated:
        try:
            memory = GpuMemory(settings.cache_vram_safety_margin_gb)
        except NoCapableWorker as error:
            most = settings.cache_max_models
            log.warning("models are counted, since the GPU's memory is not told", most=most, reason=error.message)
    room = ModelRoom(memory, most_models=most)
    if most is None:
        log.info("memory for models", mib=room.budget_bytes // MIB, limited_by=memory.limited_by)
    else:
        log.info("memory for models", most_models=most)
    return room


def _host_memory(settings: Settings, usable_bytes: int) -> HostMemory:
    if settings.cache_ram_gb:
        return HostMemory(round(settings.cache_ram_gb * GIB), f"CACHE_RAM_GB={settings.cache_ram_gb:g}")
    return HostMemory(usable_bytes // 2, "half of what the worker may use; CACHE_RAM_GB sets it")
