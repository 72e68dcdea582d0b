"""The registry in whatever order it is used: leases, loads, unloads, reloads, pins and failures with little room.

Real sessions and threads; sizes are estimates, since something else is said to go on during each load. Whatever comes:
no more is held than the limit allows, what is leased is not closed, all who wait come to an end, and nothing is left.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from fleet.errors import ModelError, NoCapableWorker, RunStopped
from tests.support.model_shelf import CPU, MIB, Task, feeds, put_model, registry_over
from tests.support.ort_model import RecordedProgress
from tests.support.waiting import eventually
from worker.engine import registry as registry_module
from worker.engine import tenancy
from worker.engine.device_memory import HostMemory
from worker.engine.loaded import LoadedModel
from worker.engine.model_room import ModelRoom
from worker.engine.model_version import ModelVersion
from worker.engine.session import SessionSetup
from worker.memory.budget import Budget, Holding
from worker.memory.limit import GIB, Limit, LimitedBy
from worker.stop import StopToken

#: MiB of the files; in memory they are expected to take 8 more, and half of that again.
SIZES = {"a": 0.1, "b": 0.1, "c": 4.0, "d": 8.0}
NAMES = st.sampled_from(sorted(SIZES))
#: What a user or a load may be told, in the words of the registry or of this test.
REFUSALS = (RunStopped, ModelError, NoCapableWorker)
ROOMS: dict[str, Callable[[], ModelRoom]] = {
    "counted": lambda: ModelRoom(most_models=2),
    "sized": lambda: ModelRoom(HostMemory(30 * MIB, "a setting")),
}


class User:
    """A run that needs a model, in a thread; it keeps the lease until `leave` is set."""

    def __init__(self, machine: "Machine", name: str) -> None:
        self.progress = RecordedProgress()
        self.leave = threading.Event()
        self.loaded: LoadedModel | None = None
        self._machine, self._name = machine, name
        self.task = Task(self._run)

    def _run(self) -> None:
        with self._machine.registry.leased(self._name, 1, self.progress) as loaded:
            self.loaded = loaded
            assert self.leave.wait(60)
            loaded.for_run(StopToken()).run(feeds())
            self.loaded = None


class Machine(RuleBasedStateMachine):
    def __init__(self, shelf: Path, room: ModelRoom) -> None:
        super().__init__()
        self.room = room
        self.budget = Budget(Limit(8 * GIB, LimitedBy.SETTING), used=lambda: GIB, free=lambda: 1 << 40)
        self.budget.reserve(Holding(), GIB, "something else")
        self.held_before = self.budget.held_bytes
        #: Models whose loads fail, and where.
        self.broken: dict[str, str] = {}
        self.registry = registry_over(shelf, self._setup, budget=self.budget, room=room, after_load=self._hook)
        self.budget.give_back = self.registry.shrink
        self.budget.may_go, self.budget.let_go = self.registry.idle_bytes, self.registry.let_go
        self.users: list[User] = []
        self.tasks: list[Task] = []

    def _setup(self, version: ModelVersion) -> SessionSetup:
        if self.broken.get(version.name) == "before":
            raise ModelError("broken", code="session-config-invalid")
        return CPU

    def _hook(self, loaded: LoadedModel) -> None:
        if self.broken.get(loaded.version.name) == "after":
            raise ModelError("broken", code="warmup-failed")

    @rule(name=NAMES)
    def lease(self, name: str) -> None:
        self.users.append(User(self, name))

    @precondition(lambda self: self.users)
    @rule(data=st.data(), stopped=st.sampled_from([False, False, True]))
    def leave(self, data: st.DataObject, stopped: bool) -> None:
        user = self.users[data.draw(st.integers(0, len(self.users) - 1))]
        if stopped:
            user.progress.stop = RunStopped("asked to stop", code="cancelled")
        user.leave.set()

    @rule(name=NAMES, on_demand=st.booleans())
    def unload(self, name: str, on_demand: bool) -> None:
        self.registry.unload(f"{name}/1", on_demand=on_demand)

    @rule(name=NAMES)
    def load(self, name: str) -> None:
        self.tasks.append(Task(lambda: self.registry.load(name, 1)))

    @rule(name=NAMES)
    def reload(self, name: str) -> None:
        version = self.registry.repository.get(name, 1)
        self.tasks.append(Task(lambda: self.registry.reload(version)))

    @rule(name=NAMES, pinned=st.booleans())
    def pin(self, name: str, pinned: bool) -> None:
        (self.registry.pin if pinned else self.registry.unpin)(f"{name}/1")

    @rule(name=NAMES, where=st.sampled_from(["", "before", "after"]))
    def break_or_mend(self, name: str, where: str) -> None:
        self.broken[name] = where

    @rule(count=st.sampled_from([1, 1 << 40]))
    def want_memory(self, count: int) -> None:
        self.registry.let_go(count)

    @rule()
    def shrink(self) -> None:
        self.registry.shrink()

    @rule(seconds=st.sampled_from([0.01, 0.05]))
    def let_pass(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    @invariant()
    def what_is_held_is_within_the_limit(self) -> None:
        with self.registry._changed:
            held, limit = self.room.residency.held, self.room.residency.limit
            places = [(place.key, place.weight) for place in self.room.residency.places]
        assert held <= limit, places

    @invariant()
    def what_is_leased_is_open(self) -> None:
        for user in self.users:
            loaded = user.loaded
            closed = loaded is not None and loaded.session._session is None
            assert not closed or user.loaded is None

    @invariant()
    def states_are_those_of_the_sessions(self) -> None:
        with self.registry._changed:
            ready = {key for key, state in self.registry.states().items() if state["state"] == "READY"}
            assert ready == set(self.registry.loaded)

    def teardown(self) -> None:
        for user in self.users:
            user.leave.set()
        for task in [*(user.task for user in self.users), *self.tasks]:
            with suppress(*REFUSALS):
                task.end()
        # Whoever let go last may still be closing what it let go.
        eventually(lambda: not self.registry._tenancy.leaving)
        self._nothing_is_left()
        self.registry.clear()
        assert self.room.residency.places == []
        assert self.budget.held_bytes == self.held_before

    def _nothing_is_left(self) -> None:
        residents = self.registry._tenancy.residents()
        states: dict[str, dict[str, Any]] = self.registry.states()
        assert {state["state"] for state in states.values()} <= {"READY", "UNAVAILABLE"}
        assert [state["leases"] for state in states.values() if state["leases"]] == []
        assert {id(place) for place in self.room.residency.places} == {id(one.place) for one in residents}
        assert self.budget.held_bytes == self.held_before + sum(one.bytes for one in residents)
        assert (self.registry._tenancy._line, self.registry._tenancy._loading) == ([], 0)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, mib in SIZES.items():
        put_model(folder, name, mib)
    return folder


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits in the registry are short, so that many orders of events fit into a second."""
    monkeypatch.setattr(tenancy, "TICK_S", 0.01)
    monkeypatch.setattr(registry_module, "TICK_S", 0.01)
    monkeypatch.setattr(tenancy, "_COURTESY_S", 0.02)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("room", sorted(ROOMS))
def test_the_registry_keeps_its_promises_in_any_order_of_verbs(shelf: Path, room: str) -> None:
    run_state_machine_as_test(
        lambda: Machine(shelf, ROOMS[room]()),  # type: ignore[arg-type]
        settings=settings(
            max_examples=10,
            stateful_step_count=30,
            derandomize=True,
            # Threads race: what fails seldom fails in the same way again, so making it smaller only takes time.
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
