"""Who waits for room gets it in the end: reloads and loads that meet, long loads, and memory that others hold."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from fleet.errors import DependencyError, NoCapableWorker, NotFound, RunStopped
from tests.support.model_shelf import MIB, Gate, Task, feeds, put_model, registry_over
from tests.support.ort_model import RecordedProgress
from tests.support.waiting import eventually
from worker.engine import tenancy
from worker.engine.device_memory import HostMemory
from worker.engine.loaded import LoadedModel
from worker.engine.model_room import ModelRoom
from worker.engine.registry import Registry
from worker.stop import StopToken


def run(registry: Registry, name: str, progress: RecordedProgress | None = None) -> None:
    with registry.leased(name, 1, progress) as loaded:
        loaded.for_run(StopToken()).run(feeds())


def in_line(registry: Registry) -> int:
    return len(registry._tenancy._line)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    for name in "abcd":
        put_model(tmp_path, name, 0.1)
    return tmp_path


class Device:
    """Of 100 MiB. `foreign` is what other processes hold, `silent` whether its library does not answer."""

    of_device = True
    limited_by = "a device"
    limit_bytes = 100 * MIB
    foreign = 0
    silent = False

    def held_bytes(self) -> int:
        if self.silent:
            raise NoCapableWorker("the GPU's memory cannot be asked for: it says 999", code="gpu-unusable")
        return self.foreign


@pytest.fixture
def over() -> Iterator[threading.Event]:
    over = threading.Event()
    yield over
    over.set()


def busy(registry: Registry, name: str, over: threading.Event) -> Task:
    """Uses the model without a pause."""

    def use() -> None:
        while not over.is_set():
            run(registry, name)

    return Task(use)


def test_a_reload_and_a_load_that_want_the_same_room_do_not_wait_for_each_other(shelf: Path) -> None:
    registry, progress = registry_over(shelf, room=ModelRoom(most_models=1)), RecordedProgress()
    with registry.leased("a", 1) as loaded:
        other = Task(lambda: run(registry, "b", progress))
        eventually(lambda: in_line(registry) == 1)
        reloading = Task(lambda: registry.reload(loaded.version, progress))
        eventually(lambda: in_line(registry) == 2)
    try:
        other.end()
        reloading.end()
    finally:
        progress.stop = RunStopped("the test is over", code="cancelled")
    assert registry.loaded == ["a/1"]


def test_the_one_that_a_reload_is_to_replace_is_not_closed_while_the_next_is_made(shelf: Path) -> None:
    gate = Gate()
    registry = registry_over(shelf, after_load=gate, room=ModelRoom(most_models=2))
    version = registry.load("a", 1).version
    gate.held.add("a")
    reloading = Task(lambda: registry.reload(version))
    assert gate.reached.wait(20)
    for name in "bcbc":
        run(registry, name)
    assert "a/1" in registry.loaded
    gate.opened.set()
    reloading.end()
    assert registry.loaded == ["a/1", "c/1"], "nothing had to go for it: counted, the two are one"


def test_a_model_is_not_refused_for_room_while_a_pinned_one_is_reloaded(shelf: Path) -> None:
    gate = Gate()
    registry = registry_over(shelf, after_load=gate, room=ModelRoom(most_models=2))
    registry.pin("a/1")
    version = registry.load("a", 1).version
    gate.held.add("a")
    reloading = Task(lambda: registry.reload(version))
    assert gate.reached.wait(20)
    run(registry, "b")
    gate.opened.set()
    reloading.end()
    assert registry.loaded == ["a/1", "b/1"]


def test_a_pinned_model_that_is_unloaded_makes_room_once_its_last_run_has_ended(shelf: Path) -> None:
    registry = registry_over(shelf, room=ModelRoom(most_models=1))
    registry.pin("a/1")
    with registry.leased("a", 1):
        registry.unload("a/1", on_demand=True)
        waiting = Task(lambda: run(registry, "b"))
        eventually(lambda: in_line(registry) == 1 or not waiting.running)
    waiting.end()
    assert registry.loaded == ["b/1"]


def test_room_that_a_long_load_takes_is_waited_for_however_long(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenancy, "_PATIENCE_S", 0.3)
    gate = Gate("a")
    registry = registry_over(shelf, after_load=gate, room=ModelRoom(most_models=1))
    loading = Task(lambda: run(registry, "a"))
    assert gate.reached.wait(20)
    waiting = Task(lambda: run(registry, "b"))
    time.sleep(1.2)
    assert waiting.running
    gate.opened.set()
    loading.end()
    waiting.end()


def test_who_waits_for_memory_that_others_hold_ends_even_if_models_here_are_used(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, over: threading.Event
) -> None:
    monkeypatch.setattr(tenancy, "_PATIENCE_S", 0.3)
    put_model(shelf, "large", 40)
    device = Device()
    registry = registry_over(shelf, room=ModelRoom(device))
    registry.load("a", 1)
    device.foreign = 60 * MIB
    busy(registry, "a", over)
    with pytest.raises(DependencyError, match="other processes hold the memory of the device"):
        run(registry, "large")
    assert registry.loaded == ["a/1"], "closing it would not have helped"


def test_each_that_gets_room_keeps_it_for_a_while_however_many_stand_in_line(shelf: Path) -> None:
    loads: list[float] = []

    def hook(loaded: LoadedModel) -> None:
        loads.append(time.monotonic())

    def use_until_asked_to_leave(name: str) -> None:
        with registry.leased(name, 1):
            eventually(lambda: f"{name}/1" not in registry.loaded or len(loads) == 4)

    registry = registry_over(shelf, after_load=hook, room=ModelRoom(most_models=1))
    users = [Task(partial(use_until_asked_to_leave, name)) for name in "abcd"]
    for user in users:
        user.end()
    assert min(later - earlier for earlier, later in pairwise(loads)) >= tenancy._COURTESY_S


def test_what_is_too_much_goes_as_soon_as_it_is_idle(tmp_path: Path) -> None:
    for name in "ab":
        put_model(tmp_path, name, 2)
    room = ModelRoom(HostMemory(24 * MIB, "a setting"))
    registry = registry_over(tmp_path, room=room)
    with registry.leased("a", 1), registry.leased("b", 1) as loaded:
        for _ in range(3):
            room.sizes.learn(loaded.version, 23 * MIB)
        # As if that load had shown it: both were in use, and neither could go.
        place = next(place for place in room.residency.places if place.key == "b/1")
        place.weight = room.sizes.bytes_of(loaded.version)
    assert room.residency.held <= 24 * MIB


def test_a_device_that_does_not_tell_its_memory_costs_no_lease(shelf: Path) -> None:
    device = Device()
    registry = registry_over(shelf, room=ModelRoom(device))
    with registry.leased("a", 1):
        device.silent = True
    run(registry, "a")
    assert registry.states()["a/1"]["leases"] == 0


def test_the_pin_of_a_model_that_is_not_there_yet_is_kept(tmp_path: Path) -> None:
    put_model(tmp_path, "a", 0.1)
    registry = registry_over(tmp_path)
    registry.pin("later/1")
    with pytest.raises(NotFound):
        registry.load("later", 1)
    put_model(tmp_path, "later", 0.1)
    eventually(lambda: registry.repository.look() or "later/1" in registry.repository.keys)
    registry.load("later", 1)
    assert registry.states()["later/1"]["pinned"]


def test_taking_back_what_was_never_asked_of_a_model_leaves_no_trace(shelf: Path) -> None:
    registry = registry_over(shelf)
    registry.unpin("a/1")
    registry.unload("b/1", on_demand=True)
    assert registry.states() == {}


def test_a_device_that_is_lost_in_a_warm_up_is_noticed(shelf: Path) -> None:
    def lost(loaded: LoadedModel) -> None:
        raise NoCapableWorker("the GPU failed under the model", code="gpu-lost")

    registry = registry_over(shelf, after_load=lost)
    with pytest.raises(NoCapableWorker):
        run(registry, "a")
    assert registry.device_lost


def test_a_device_that_was_lost_is_noticed_after_its_session_has_gone(shelf: Path) -> None:
    registry = registry_over(shelf)
    with registry.leased("a", 1) as loaded:
        loaded.session.device_lost = True
        registry.unload("a/1", on_demand=True)
    assert registry.loaded == []
    assert registry.device_lost


def test_an_unload_during_a_load_lets_it_serve_who_waits_and_go(shelf: Path) -> None:
    gate = Gate("a")
    registry = registry_over(shelf, after_load=gate)
    loading = Task(lambda: run(registry, "a"))
    assert gate.reached.wait(20)
    registry.unload("a/1", on_demand=True)
    gate.opened.set()
    loading.end()
    assert registry.loaded == []
    assert registry.states()["a/1"]["reason"] == "unloaded on request"


def test_an_unload_during_a_reload_ends_what_the_reload_brings(shelf: Path) -> None:
    gate = Gate()
    registry = registry_over(shelf, after_load=gate)
    version = registry.load("a", 1).version
    gate.held.add("a")
    changed = version.manifest.model_copy(update={"licence": "taken back"})
    reloading = Task(lambda: registry.reload(replace(version, manifest=changed)))
    assert gate.reached.wait(20)
    registry.unload("a/1", on_demand=True)
    gate.opened.set()
    reloading.end()
    assert registry.loaded == []
    with registry.leased("a", 1) as loaded:
        assert loaded.version.manifest.licence != "taken back"
