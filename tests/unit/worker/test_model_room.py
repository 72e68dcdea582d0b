"""What the settings make of a worker's memory for models, and what is loaded before the first job."""

from pathlib import Path

import pytest

from fleet.contracts import Pool
from fleet.errors import NoCapableWorker
from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, Settings
from tests.support.model_shelf import MIB, put_model, registry_over
from worker.boot.engine import preload
from worker.device import Device
from worker.engine import room_choice
from worker.engine.device_memory import GpuMemory
from worker.engine.model_room import ModelRoom
from worker.engine.providers import Providers
from worker.engine.room_choice import model_room

GIB = 1024 * MIB


def device(*using: str) -> Device:
    return Device("one", Pool.CPU, Providers(list(using), list(using), list(using)), 1, 1)


def room(settings: Settings, *using: str) -> ModelRoom:
    return model_room(settings, device(*(using or [CPU_PROVIDER])), 6 * GIB)


def test_models_on_a_cpu_may_take_half_of_what_the_worker_may() -> None:
    assert room(Settings(_env_file=None)).budget_bytes == 3 * GIB
    assert room(Settings(_env_file=None, cache_ram_gb=1.5)).budget_bytes == 1.5 * GIB


def test_fixed_size_counts_models() -> None:
    counting = room(Settings(_env_file=None, cache_strategy="fixed_size", cache_max_models=3))
    assert counting.by_count
    assert counting.residency.limit == 3
    assert counting.budget_bytes == 0


def test_a_gpu_whose_memory_is_not_told_has_its_models_counted() -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("a GPU is here")
    with pytest.raises(NoCapableWorker, match="memory cannot be asked for"):
        GpuMemory(1.0)
    counting = room(Settings(_env_file=None, cache_max_models=5), CUDA_PROVIDER, CPU_PROVIDER)
    assert counting.by_count
    assert counting.residency.limit == 5


class Shared:
    """A device of 100 MiB, whose use by all is told here."""

    of_device = True
    limited_by = "a device"
    limit_bytes = 100 * MIB
    used = 0

    def held_bytes(self) -> int:
        return self.used


def test_what_others_hold_of_a_device_is_waited_for_and_what_never_fits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_choice, "GpuMemory", lambda margin_gb: shared)
    shared = Shared()
    shared.used = 90 * MIB
    of_gpu = room(Settings(_env_file=None), CUDA_PROVIDER, CPU_PROVIDER)
    assert of_gpu.budget_bytes == 100 * MIB
    put_model(tmp_path, "a", 20)
    place = of_gpu.place(registry_over(tmp_path).repository.get("a", 1))
    assert of_gpu.victims(place, [], None, 0) is None, "others hold 90 of 100 MiB"
    shared.used = 50 * MIB
    assert of_gpu.victims(place, [], None, 0) == []
    of_gpu.residency.add(place)
    assert of_gpu.victims(of_gpu.place(registry_over(tmp_path).repository.get("a", 1)), [], None, place.weight) == []


def test_preloaded_models_are_loaded_and_stay(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put_model(tmp_path, name, 0.1)
    registry = registry_over(tmp_path, room=ModelRoom(most_models=2))
    preload(registry, ["a", "nobody", "b/7"])
    assert registry.loaded == ["a/1"]
    for name in ("b", "c", "b"):
        registry.load(name, 1)
    assert registry.loaded == ["a/1", "b/1"]
    assert registry.states()["a/1"]["pinned"]


def test_what_runs_take_of_a_device_is_added_to_what_the_session_holds(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put_model(tmp_path, name, 1)
    shared = Shared()
    registry = registry_over(tmp_path, room=ModelRoom(shared))
    registry.load("a", 1)
    before = registry.held_bytes
    with registry.leased("a", 1):
        shared.used += 30 * MIB
    assert registry.held_bytes == before + 30 * MIB == registry.room.residency.held
    registry.load("b", 1)
    held = registry.held_bytes
    with registry.leased("a", 1), registry.leased("b", 1):
        shared.used += 20 * MIB
    assert registry.held_bytes == held, "whose it is cannot be told"
    with registry.leased("b", 1):
        shared.used += 80 * MIB
    assert registry.loaded == ["b/1"], "a has to go, since b turned out larger"
