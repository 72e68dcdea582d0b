"""What models hold and a job's own memory: which of them may go for it, and whose turn it is when none can."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from fleet.errors import FleetError, ModelError
from tests.support.model_shelf import MIB, Task, put_model, registry_over
from tests.support.waiting import eventually
from worker.contract import Model
from worker.engine.appetite import Appetite
from worker.engine.derived import Derived
from worker.engine.device_memory import HostMemory
from worker.engine.model_room import ModelRoom
from worker.engine.registry import Registry
from worker.memory.budget import Budget, Holding
from worker.memory.limit import GIB, Limit, LimitedBy
from worker.memory.share import Memory
from worker.progress import JobProgress
from worker.stop import StopToken


def budget_of(registry: Registry) -> Budget:
    """As a process wires it, over numbers that stand still."""
    budget = Budget(Limit(2 * GIB, LimitedBy.SETTING), used=lambda: GIB, free=lambda: 1 << 40)
    budget.may_go, budget.let_go = registry.idle_bytes, registry.let_go
    return budget


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    for name in ("idle", "own"):
        put_model(tmp_path, name, 16)
    registry = registry_over(tmp_path, room=ModelRoom(HostMemory(1 << 40, "a setting")))
    registry.load("idle", 1)
    return registry


def test_a_job_whose_own_model_is_pinned_may_have_the_memory_of_idle_ones(registry: Registry) -> None:
    budget, mine = budget_of(registry), Holding()
    before = budget.most_for(mine)
    registry.pin("own/1")
    with registry.leased("own", 1) as loaded:
        mine.keeps = partial(registry.idle_bytes, loaded)
        assert budget.most_for(mine) == before


def test_a_job_whose_own_model_is_replaced_meanwhile_may_have_the_memory_of_the_next_one(registry: Registry) -> None:
    budget, mine = budget_of(registry), Holding()
    with registry.leased("own", 1) as loaded:
        mine.keeps = partial(registry.idle_bytes, loaded)
        before = budget.most_for(mine)
        new = registry.reload(loaded.version)
        assert budget.most_for(mine) == before + registry.idle_bytes(new)


def test_a_model_whose_load_can_never_fit_is_not_said_to_be_the_inputs_fault(tmp_path: Path) -> None:
    put_model(tmp_path, "large", 40)
    limit = Limit(GIB + 256 * MIB, LimitedBy.SETTING)
    memory = Memory(Budget(limit, used=lambda: GIB, free=lambda: 1 << 40), tmp_path, scratch_in_memory=False)
    progress = JobProgress(StopToken())
    progress.share = memory.share(lambda seconds: None)
    registry = registry_over(tmp_path, budget=memory.budget, room=ModelRoom(most_models=2))
    with pytest.raises(ModelError, match="loading large/1 takes an estimated 97 MiB of memory") as caught:
        registry.load("large", 1, progress)
    assert caught.value.code == "memory-error"
    assert caught.value.facts["budget_bytes"] == limit.bytes - limit.reserve_bytes - GIB
    assert registry.room.residency.held == 0


@dataclass
class Models:
    """What a process holds besides its runs, as a test says: models by name, and which of them runs use."""

    bytes: dict[str, int]
    used: set[str] = field(default_factory=set)

    def budget(self) -> Budget:
        limit = Limit(10 * GIB, LimitedBy.SETTING)
        budget = Budget(limit, used=lambda: GIB + sum(self.bytes.values()), free=lambda: 100 * GIB)
        budget.may_go = lambda: sum(self.bytes.values())

        def let_go(count: int) -> None:
            for name in self.bytes.keys() - self.used:
                budget.grew(-self.bytes.pop(name))

        budget.let_go = let_go
        return budget


def test_runs_whose_models_are_in_each_others_way_do_not_wait_for_each_other() -> None:
    models = Models({"one": GIB, "two": GIB}, {"one", "two"})
    budget, before = models.budget(), Holding()
    assert budget.reserve(before, GIB, "a run before")

    def run(name: str, wanted: int) -> None:
        mine = Holding(keeps=lambda: models.bytes.get(name, 0))
        assert not budget.reserve(mine, wanted, name)
        budget.wait(mine, wanted, name, lambda: None)
        models.used.discard(name)
        budget.release(mine)

    # Both models and this do not fit: that of the other one has to go, whose run stands behind in line.
    large = Task(lambda: run("one", budget.usable_bytes - 2 * GIB - 64 * MIB))
    eventually(lambda: budget.waiting == 1)
    small = Task(lambda: run("two", GIB))
    eventually(lambda: budget.waiting == 2)
    budget.release(before)
    small.end()
    large.end()


def test_what_is_given_back_during_a_run_does_not_make_it_look_smaller_than_its_outputs() -> None:
    appetite, elements = Appetite(), 1 << 20
    for turn in range(3):
        appetite.learn(elements, -5 * MIB, 4 * MIB, fresh=turn == 0)
    assert appetite.bytes_for({"x": (elements,)}) >= Appetite().bytes_for({"x": (0,)}) + 4 * MIB


def test_what_is_derived_may_be_derived_from_something_else() -> None:
    derived, made = Derived(), []

    def words(model: Model) -> list[str]:
        made.append("words")
        return ["a", "b"]

    def count(model: Model) -> int:
        return len(derived.get(words, model))

    # Handed on, and not looked at.
    model: Model = object()  # type: ignore[assignment]
    assert Task(lambda: derived.get(count, model)).end() == 2
    assert derived.get(words, model) == ["a", "b"]
    assert made == ["words"]


def test_what_cannot_be_derived_is_tried_again_by_the_next_who_asks() -> None:
    derived, faults = Derived(), [FleetError("the disk was away")]

    def words(model: Model) -> list[str]:
        if faults:
            raise faults.pop()
        return ["a"]

    # Handed on, and not looked at.
    model: Model = object()  # type: ignore[assignment]
    with pytest.raises(FleetError):
        derived.get(words, model)
    assert derived.get(words, model) == ["a"]
