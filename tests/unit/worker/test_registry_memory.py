"""What a model holds is measured when nothing disturbs, comes back when it goes, and gives way to jobs."""

import gc
import os
import threading
from functools import partial
from pathlib import Path

import pytest

from fleet.errors import InputTooLarge
from tests.support.model_shelf import CPU, MIB, feeds, put_model, registry_over
from worker.engine.arena import share_arena
from worker.engine.device_memory import HostMemory
from worker.engine.model_room import ModelRoom
from worker.engine.registry import Registry
from worker.memory.budget import Budget, Holding
from worker.memory.limit import Limit, LimitedBy, held_bytes, used_bytes
from worker.memory.trim import trim
from worker.stop import StopToken


def held() -> int:
    gc.collect()
    trim()
    return held_bytes(os.getpid())


def used(registry: Registry, name: str) -> None:
    with registry.leased(name, 1) as loaded:
        loaded.for_run(StopToken()).run(feeds())


def test_memory_comes_back_after_fifty_loads(tmp_path: Path) -> None:
    put_model(tmp_path, "a", 16)
    share_arena()
    registry = registry_over(tmp_path)
    used(registry, "a")
    registry.unload("a/1", on_demand=True)
    before = held()
    for _ in range(50):
        used(registry, "a")
        registry.unload("a/1", on_demand=True)
    assert held() < before * 1.1 + 8 * MIB, "less than half of one model is left of fifty"


def test_sizes_are_measured_by_the_loads(tmp_path: Path) -> None:
    put_model(tmp_path, "a", 32)
    registry = registry_over(tmp_path)
    version = registry.repository.get("a", 1)
    assert registry.room.sizes.bytes_of(version) == version.size_bytes * 3 // 2 + 8 * MIB
    registry.load("a", 1)
    assert 31 * MIB < registry.held_bytes < 40 * MIB
    assert registry.room.sizes.bytes_of(version) == registry.held_bytes


def test_loads_at_the_same_time_are_not_believed(tmp_path: Path) -> None:
    for name in "ab":
        put_model(tmp_path, name, 32)
    both = threading.Barrier(2)
    registry = registry_over(tmp_path, after_load=lambda loaded: both.wait(20) and None)
    threads = [threading.Thread(target=registry.load, args=(name, 1)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    version = registry.repository.get("a", 1)
    assert registry.room.sizes.bytes_of(version) == version.size_bytes * 3 // 2 + 8 * MIB


def test_a_job_that_needs_the_memory_gets_that_of_idle_models(tmp_path: Path) -> None:
    for name in ("idle", "own"):
        put_model(tmp_path, name, 64)
    held()
    budget = Budget(Limit(used_bytes() + 400 * MIB, LimitedBy.SETTING), used=used_bytes, free=lambda: 1 << 40)
    registry = registry_over(tmp_path, budget=budget, room=ModelRoom(HostMemory(1 << 40, "a setting")))
    budget.give_back, budget.may_go, budget.let_go = registry.shrink, registry.idle_bytes, registry.let_go
    alone = budget.most_bytes
    registry.load("idle", 1)
    assert budget.most_bytes == pytest.approx(alone, abs=24 * MIB), "an idle model takes nothing from a job"
    mine = Holding()
    with registry.leased("own", 1) as loaded:
        mine.keeps = partial(registry.idle_bytes, loaded)
        assert budget.most_for(mine) < alone - 40 * MIB
        assert budget.reserve(mine, budget.most_for(mine) - 8 * MIB, "a volume")
        assert registry.loaded == ["own/1"]
        loaded.for_run(StopToken()).run(feeds())
        with pytest.raises(InputTooLarge):
            budget.reserve(mine, alone, "a larger volume")
    budget.release(mine)


def test_what_is_held_for_nobody_counts_again_once_it_is_closed(tmp_path: Path) -> None:
    put_model(tmp_path, "a", 48)
    held()
    budget = Budget(Limit(used_bytes() + 400 * MIB, LimitedBy.SETTING), used=used_bytes, free=lambda: 1 << 40)
    registry = registry_over(tmp_path, lambda version: CPU, budget=budget)
    before = budget.held_bytes
    registry.load("a", 1)
    assert budget.held_bytes > before + 40 * MIB
    registry.unload("a/1")
    assert budget.held_bytes == before
