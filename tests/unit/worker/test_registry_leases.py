"""What is loaded and used stays, what waits is served in turn, and what cannot fit is refused with numbers."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import ModelError, NoCapableWorker, NotFound, RunStopped
from tests.support.model_shelf import CPU, MIB, Gate, Task, feeds, put_model, registry_over
from tests.support.ort_model import RecordedProgress
from worker.engine.device_memory import HostMemory
from worker.engine.model_room import ModelRoom
from worker.engine.registry import Registry
from worker.engine.session import SessionSetup
from worker.stop import StopToken


def counted(most: int) -> ModelRoom:
    return ModelRoom(most_models=most)


def sized(mib: int) -> ModelRoom:
    return ModelRoom(HostMemory(mib * MIB, "a setting"))


def run(registry: Registry, name: str) -> None:
    with registry.leased(name, 1) as loaded:
        loaded.for_run(StopToken()).run(feeds())


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    for name in "abc":
        put_model(tmp_path, name, 0.1)
    return tmp_path


def state(registry: Registry, name: str) -> dict[str, Any]:
    return registry.states()[f"{name}/1"]


def test_the_one_unused_for_longest_goes_when_models_are_counted(shelf: Path) -> None:
    registry = registry_over(shelf, room=counted(2))
    for name in "abac":
        run(registry, name)
    assert registry.loaded == ["a/1", "c/1"]
    assert state(registry, "b")["state"] == "UNAVAILABLE"
    assert state(registry, "b")["reason"] == "made room for c/1"
    assert state(registry, "b")["on_demand"]


def test_what_is_in_use_is_not_closed_and_the_next_one_waits(shelf: Path) -> None:
    registry = registry_over(shelf, room=counted(1))
    with registry.leased("a", 1) as loaded:
        waiting = Task(lambda: run(registry, "b"))
        until(lambda: state(registry, "a")["state"] == "UNLOADING")
        loaded.for_run(StopToken()).run(feeds())
        assert waiting.running
    waiting.end()
    assert registry.loaded == ["b/1"]


def test_a_model_in_use_without_a_pause_does_not_keep_another_out(shelf: Path) -> None:
    registry, over = registry_over(shelf, room=counted(1)), threading.Event()

    def use() -> None:
        while not over.is_set():
            run(registry, "a")

    busy = [Task(use) for _ in range(3)]
    until(lambda: registry.loaded == ["a/1"])
    Task(lambda: run(registry, "b")).end()
    over.set()
    for one in busy:
        one.end()


def test_waiting_for_room_ends_when_the_run_is_to_stop(shelf: Path) -> None:
    registry, progress = registry_over(shelf, room=counted(1)), RecordedProgress()

    def wait() -> None:
        with registry.leased("b", 1, progress):
            pass

    with registry.leased("a", 1):
        waiting = Task(wait)
        until(lambda: "b/1" in registry.states())
        progress.stop = RunStopped("asked to stop", code="cancelled")
        with pytest.raises(RunStopped):
            waiting.end()
    run(registry, "b")


def test_a_loaded_model_is_leased_while_another_one_loads(shelf: Path) -> None:
    gate = Gate("b")
    registry = registry_over(shelf, after_load=gate, room=counted(2))
    run(registry, "a")
    loading = Task(lambda: run(registry, "b"))
    assert gate.reached.wait(20)
    assert state(registry, "b")["state"] == "LOADING"
    for _ in range(50):
        run(registry, "a")
    assert loading.running, "all that happened while the other one was still loading"
    gate.opened.set()
    loading.end()


def test_a_small_load_overtakes_a_long_one(shelf: Path) -> None:
    gate = Gate("b")
    registry = registry_over(shelf, after_load=gate)
    loading = Task(lambda: run(registry, "b"))
    assert gate.reached.wait(20)
    run(registry, "c")
    assert loading.running
    gate.opened.set()
    loading.end()


def test_one_that_can_never_fit_is_refused_with_numbers(tmp_path: Path) -> None:
    put_model(tmp_path, "large", 40)
    registry = registry_over(tmp_path, room=sized(30))
    with pytest.raises(ModelError, match=r"large/1 takes an estimated 69 MiB .* 30 MiB here \(a setting\)") as caught:
        run(registry, "large")
    assert caught.value.code == "memory-error"
    assert caught.value.facts["budget_bytes"] == 30 * MIB
    assert state(registry, "large")["reason"] == caught.value.message
    assert registry.loaded == []


def test_one_that_cannot_fit_beside_what_is_pinned_is_refused(tmp_path: Path) -> None:
    put_model(tmp_path, "kept", 10, pin=True)
    put_model(tmp_path, "large", 20)
    with registry_over(tmp_path, room=sized(44)).leased("large", 1):
        pass
    tight = registry_over(tmp_path, room=sized(44))
    run(tight, "kept")
    with pytest.raises(ModelError, match="held by pinned models") as caught:
        run(tight, "large")
    assert caught.value.code == "memory-error"
    assert tight.loaded == ["kept/1"]


def test_the_budget_is_kept_however_many_want_in(tmp_path: Path) -> None:
    names = [f"m{n}" for n in range(8)]
    for n, name in enumerate(names):
        put_model(tmp_path, name, 2 + n % 3)
    room = sized(40)
    registry, seen, over = registry_over(tmp_path, room=room), [], threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.append(room.residency.held)
            time.sleep(0.001)

    looking = Task(look)
    users = [Task(lambda own=own: [run(registry, name) for name in own * 4]) for own in (names, names[::-1], names[3:])]
    for user in users:
        user.end()
    over.set()
    looking.end()
    assert max(seen) <= 40 * MIB
    assert registry.held_bytes <= 40 * MIB


def test_unload_lets_runs_finish_and_refuses_new_ones(shelf: Path) -> None:
    registry = registry_over(shelf)
    with registry.leased("a", 1) as loaded:
        registry.unload("a/1")
        assert state(registry, "a")["state"] == "UNLOADING"
        with pytest.raises(NoCapableWorker, match="unloaded on request") as caught:
            run(registry, "a")
        assert caught.value.code == "model-unloaded"
        loaded.for_run(StopToken()).run(feeds())
    after = state(registry, "a")
    assert (after["state"], after["reason"]) == ("UNAVAILABLE", "unloaded on request")
    assert (after["memory_bytes"], after["leases"], after["on_demand"]) == (0, 0, False)
    registry.load("a", 1)
    run(registry, "a")


def test_unload_on_demand_is_loaded_again_by_the_next_run(shelf: Path) -> None:
    registry = registry_over(shelf)
    run(registry, "a")
    registry.unload("a/1", on_demand=True)
    assert registry.loaded == []
    run(registry, "a")
    assert state(registry, "a")["generation"] == 2


def test_unload_during_a_load_takes_effect_after_it(shelf: Path) -> None:
    gate = Gate("a")
    registry = registry_over(shelf, after_load=gate)
    loading = Task(lambda: run(registry, "a"))
    assert gate.reached.wait(20)
    registry.unload("a/1")
    gate.opened.set()
    with pytest.raises(NoCapableWorker):
        loading.end()
    assert registry.loaded == []


def test_reload_swaps_without_a_gap(shelf: Path) -> None:
    gate = Gate()
    registry = registry_over(shelf, after_load=gate)
    version = registry.load("a", 1).version
    gate.held.add("a")
    reloading = Task(lambda: registry.reload(version))
    assert gate.reached.wait(20)
    with registry.leased("a", 1) as old:
        gate.opened.set()
        new = reloading.end()
        assert new is not old
        old.for_run(StopToken()).run(feeds())
        with registry.leased("a", 1) as now:
            assert now is new
    assert state(registry, "a")["generation"] == 2
    assert [place.key for place in registry.room.residency.places] == ["a/1"], "the old one is gone"


def test_a_reload_that_fails_leaves_the_old_one_and_says_why(shelf: Path) -> None:
    faults: list[str] = []

    def hook(loaded: object) -> None:
        if faults:
            raise ModelError(faults[0], code="warmup-failed")

    registry = registry_over(shelf, after_load=hook)
    old = registry.load("a", 1)
    faults.append("the warm-up gave no numbers")
    with pytest.raises(ModelError, match="no numbers"):
        registry.reload(old.version)
    with registry.leased("a", 1) as still:
        assert still is old
        still.for_run(StopToken()).run(feeds())
    assert state(registry, "a")["state"] == "READY"
    assert state(registry, "a")["reason"] == "reload failed, the one before it stays: the warm-up gave no numbers"


def test_a_reload_that_does_not_fit_beside_the_old_one_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    put_model(tmp_path, "a", 10)
    registry = registry_over(tmp_path, room=sized(30))
    old = registry.load("a", 1)
    # Twice what was learned of it.
    registry.room.sizes.learn(old.version, 25 * MIB)
    with pytest.raises(ModelError, match="held by the session that it is to replace") as caught:
        registry.reload(old.version)
    assert caught.value.code == "memory-error"
    assert registry.loaded == ["a/1"]
    assert "the one before it stays" in state(registry, "a")["reason"]


def test_what_a_reload_brought_is_what_is_loaded_again_later(shelf: Path) -> None:
    registry = registry_over(shelf, room=counted(1))
    version = registry.load("a", 1).version
    changed = replace(version, manifest=version.manifest.model_copy(update={"licence": "new"}))
    registry.reload(changed)
    run(registry, "b")
    with registry.leased("a", 1) as loaded:
        assert loaded.version.manifest.licence == "new"


def test_all_who_wait_for_a_load_that_fails_are_told(shelf: Path) -> None:
    loads: list[str] = []
    gate = Gate("a")

    def setup(version: object) -> SessionSetup:
        loads.append("load")
        return CPU

    def hook(loaded: Any) -> None:
        gate(loaded)
        raise ModelError("broken", code="warmup-failed")

    registry = registry_over(shelf, setup, after_load=hook)
    tasks = [Task(lambda: run(registry, "a")) for _ in range(5)]
    assert gate.reached.wait(20)
    time.sleep(0.3)
    gate.opened.set()
    for task in tasks:
        with pytest.raises(ModelError, match="broken"):
            task.end()
    assert loads == ["load"]
    assert state(registry, "a")["reason"] == "broken"


def test_when_the_loading_run_is_stopped_one_that_waited_loads(shelf: Path) -> None:
    class Stopped(RecordedProgress):
        def admit(self, *values: Any, **more: Any) -> Any:
            begun.set()
            assert go_on.wait(20)
            raise RunStopped("asked to stop", code="cancelled")

    begun, go_on = threading.Event(), threading.Event()
    registry = registry_over(shelf)

    def first() -> None:
        with registry.leased("a", 1, Stopped()):
            pass

    stopped = Task(first)
    assert begun.wait(20)
    waiting = Task(lambda: run(registry, "a"))
    time.sleep(0.1)
    go_on.set()
    with pytest.raises(RunStopped):
        stopped.end()
    waiting.end()
    assert registry.loaded == ["a/1"]


def test_pinned_models_stay_and_unpinned_ones_may_go(shelf: Path) -> None:
    registry = registry_over(shelf, room=counted(2))
    registry.pin("a/1")
    for name in "abc":
        run(registry, name)
    assert registry.loaded == ["a/1", "c/1"]
    registry.pin("c/1")
    with pytest.raises(ModelError, match="CACHE_MAX_MODELS=2, and 2 have to stay"):
        run(registry, "b")
    registry.unpin("a/1")
    run(registry, "b")
    assert registry.loaded == ["b/1", "c/1"]


def test_models_that_nobody_knows_leave_no_trace(shelf: Path) -> None:
    registry = registry_over(shelf)
    with pytest.raises(NotFound):
        run(registry, "nobody")
    assert registry.states() == {}


def test_clear_closes_what_is_used_with_its_last_lease(shelf: Path) -> None:
    registry = registry_over(shelf)
    run(registry, "b")
    with registry.leased("a", 1) as loaded:
        registry.clear()
        loaded.for_run(StopToken()).run(feeds())
    assert registry.room.residency.held == 0
