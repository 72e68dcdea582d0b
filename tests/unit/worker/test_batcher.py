"""The batcher over a model that the test holds back and lets go: who runs with whom, and what becomes of each."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from fleet.contracts import Priority
from fleet.errors import FleetError, ModelError, NoCapableWorker, RunStopped, ValidationFailed
from tests.support.waiting import eventually
from worker.contract import Array
from worker.engine.batch_rows import Answer
from worker.engine.batcher import Batcher
from worker.engine.manifest import Batching
from worker.stop import StopReason, StopToken

POISON = -1.0


@dataclass
class HeldModel:
    """y = 2 x, once it is let go; a run with a poisoned row fails. `seen` are the first values of each run's rows."""

    rows_that_fit: int = 1000
    seen: list[list[float]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    answer: Callable[[Array], Array] = lambda x: 2 * x
    #: Of the token of a run that was ended by it.
    ended: list[StopReason | None] = field(default_factory=list)

    def run(self, feeds: Mapping[str, Array], stop: StopToken) -> dict[str, Array]:
        x = feeds["x"]
        self.seen.append(x[:, 0].tolist())
        while not self.gate.wait(0.01):
            if stop.reason is not None:
                self.ended.append(stop.reason)
            stop.check()
        if (x == POISON).any():
            raise ModelError("the model failed: poison", code="inference-failed")
        if len(x) > self.rows_that_fit:
            raise ModelError("the model ran out of memory", code="inference-out-of-memory")
        return {"y": self.answer(x)}


class Crowd:
    """Calls in threads of their own."""

    def __init__(self, model: HeldModel, *, paced: bool = False, **batching: Any) -> None:
        self.model = model
        self.ran: list[int] = []
        self.waits: list[float] = []
        chosen = Batching(**{"max_batch_size": 8, "dynamic": True, **batching})
        self.batcher = Batcher(
            model.run,
            chosen,
            model="m/1",
            ran=lambda rows, _: self.ran.append(rows),
            waited=self.waits.append,
            paced=paced,
        )
        self.answers: dict[float, Answer | FleetError] = {}
        self.threads: dict[float, threading.Thread] = {}

    def call(
        self,
        value: float,
        rows: int = 1,
        priority: Priority = Priority.NORMAL,
        width: int = 2,
        most_rows: int | None = None,
        *,
        seen: bool = False,
    ) -> StopToken:
        """Returns when the call waits, or with `seen` when its run is under way."""
        stop = StopToken()
        feeds = {"x": np.full((rows, width), value, np.float32)}

        def run() -> None:
            try:
                self.answers[value] = self.batcher.run(feeds, stop, priority, most_rows)
            except FleetError as error:
                self.answers[value] = error

        thread = self.threads[value] = threading.Thread(target=run)
        waiting, seen_before = self.waiting, len(self.model.seen)
        thread.start()
        eventually(lambda: self.waiting > waiting or len(self.model.seen) > seen_before or value in self.answers)
        if seen:
            eventually(lambda: any(value in run for run in self.model.seen))
        return stop

    @property
    def waiting(self) -> int:
        return self.batcher._queue.waiting

    def let_go(self) -> None:
        self.model.gate.set()
        for thread in self.threads.values():
            thread.join(10)
            assert not thread.is_alive()

    def values(self) -> dict[float, float | str]:
        """Of each call its answer's first number, or its error's code."""
        told: dict[float, float | str] = {}
        for value, answer in self.answers.items():
            told[value] = answer.code if isinstance(answer, FleetError) else float(answer.outputs["y"][0, 0])
        return told


@pytest.fixture
def model() -> Iterator[HeldModel]:
    held = HeldModel()
    yield held
    held.gate.set()


@pytest.fixture
def crowd(model: HeldModel) -> Crowd:
    return proven(Crowd(model))


def proven(crowd: Crowd) -> Crowd:
    """As after its first batch: runs are not compared any more."""
    crowd.batcher._trust.proven = True
    return crowd


def test_lone_call_runs_at_once_with_the_feeds_as_they_are() -> None:
    fed = []

    def run(feeds: Mapping[str, Array], stop: StopToken) -> dict[str, Array]:
        fed.append(feeds)
        return {"y": feeds["x"]}

    batcher, feeds = Batcher(run, Batching(max_batch_size=8, dynamic=True), model="m/1"), {"x": np.ones((3, 2))}
    answer = batcher.run(feeds, StopToken())
    assert fed == [feeds]
    assert answer.outputs["y"] is feeds["x"]
    assert answer.batch_size == 3


def test_what_arrives_during_a_run_is_the_next_batch(crowd: Crowd) -> None:
    crowd.call(0, seen=True)
    for value in (1, 2, 3):
        crowd.call(value)
    crowd.let_go()
    assert crowd.model.seen == [[0], [1, 2, 3]]
    assert crowd.values() == {0: 0, 1: 2, 2: 4, 3: 6}
    assert crowd.ran == [1, 3]
    assert len(crowd.waits) == 4
    assert {value: answer.batch_size for value, answer in crowd.answers.items() if isinstance(answer, Answer)} == {
        0: 1, 1: 3, 2: 3, 3: 3
    }  # fmt: skip


def test_batch_is_no_larger_than_allowed_and_rows_come_apart_as_they_were(crowd: Crowd) -> None:
    crowd.call(0, seen=True)
    for value, rows in ((1, 3), (2, 4), (3, 2), (4, 5)):
        crowd.call(value, rows)
    crowd.let_go()
    assert [len(run) for run in crowd.model.seen] == [1, 7, 7]
    for value, rows in ((1, 3), (2, 4), (3, 2), (4, 5)):
        answer = crowd.answers[value]
        assert isinstance(answer, Answer)
        np.testing.assert_array_equal(answer.outputs["y"], np.full((rows, 2), 2 * value, np.float32))


def test_only_equal_shapes_join_and_the_oldest_goes_first(crowd: Crowd) -> None:
    crowd.call(0, seen=True)
    for value, width in ((1, 3), (2, 2), (3, 3), (4, 2)):
        crowd.call(value, width=width)
    crowd.let_go()
    assert crowd.model.seen == [[0], [1, 3], [2, 4]]


def test_urgent_calls_go_first_inside_and_across_shapes(crowd: Crowd) -> None:
    crowd.call(0, seen=True)
    crowd.call(1, rows=8)
    crowd.call(2, rows=8, priority=Priority.HIGH)
    crowd.call(3, rows=1, priority=Priority.URGENT, width=3)
    crowd.call(4, rows=8, priority=Priority.HIGH)
    crowd.let_go()
    assert [run[0] for run in crowd.model.seen] == [0, 3, 2, 4, 1]


def test_no_call_is_passed_over_for_ever(crowd: Crowd) -> None:
    crowd.call(0, seen=True)
    crowd.call(1, priority=Priority.LOW, width=3)
    for value in range(2, 14):
        crowd.call(value, rows=8, priority=Priority.URGENT)
    crowd.let_go()
    order = [run[0] for run in crowd.model.seen]
    assert order == [0, *range(2, 10), 1, *range(10, 14)]


def test_request_above_the_limit_is_refused_with_the_numbers(crowd: Crowd) -> None:
    with pytest.raises(ValidationFailed, match="batch of 9, and the model takes at most 8") as caught:
        crowd.batcher.run({"x": np.ones((9, 2))}, StopToken())
    assert caught.value.code == "batch-too-large"
    assert caught.value.facts == {"batch": 9, "max_batch_size": 8}


def test_inputs_of_different_batch_sizes_are_refused(crowd: Crowd) -> None:
    with pytest.raises(ModelError, match=r"a \[2, 2\], b \[3, 2\]"):
        crowd.batcher.run({"a": np.ones((2, 2)), "b": np.ones((3, 2))}, StopToken())


def test_poisoned_call_fails_alone(crowd: Crowd) -> None:
    crowd.call(0, seen=True)
    for value in (1, 2, POISON, 4, 5):
        crowd.call(value)
    crowd.let_go()
    assert crowd.values() == {0: 0, 1: 2, 2: 4, POISON: "inference-failed", 4: 8, 5: 10}
    assert len(crowd.model.seen) <= 2 * 5 + 1


def test_batch_that_runs_out_of_memory_is_halved_and_the_next_ones_are_smaller(crowd: Crowd) -> None:
    crowd.model.rows_that_fit = 3
    crowd.call(0, seen=True)
    for value in range(1, 8):
        crowd.call(value)
    crowd.let_go()
    assert crowd.values() == {value: 2 * value for value in range(8)}
    assert [len(run) for run in crowd.model.seen] == [1, 7, 4, 2, 2, 3]

    crowd.model.gate.clear()
    crowd.call(10, seen=True)
    for value in range(11, 15):
        crowd.call(value)
    crowd.let_go()
    assert [len(run) for run in crowd.model.seen[6:]] == [1, 2, 2]


def test_lost_device_is_told_to_every_call_and_nothing_is_tried_again(crowd: Crowd) -> None:
    def lost(x: Array) -> Array:
        raise NoCapableWorker("the GPU failed under the model", code="gpu-lost")

    crowd.model.answer = lost
    crowd.call(0, seen=True)
    for value in (1, 2, 3):
        crowd.call(value)
    crowd.let_go()
    assert set(crowd.values().values()) == {"gpu-lost"}
    assert len(crowd.model.seen) == 2
    assert len({id(answer) for answer in crowd.answers.values()}) == 4


def test_waiting_call_that_is_stopped_leaves_at_once_and_never_runs(crowd: Crowd) -> None:
    crowd.call(0, seen=True)
    stop = crowd.call(1)
    crowd.call(2)
    stop.set(StopReason.CANCELLED)
    crowd.threads[1].join(10)
    assert crowd.values() == {1: "cancelled"}
    crowd.let_go()
    assert crowd.model.seen == [[0], [2]]


def test_call_with_a_set_token_never_runs(crowd: Crowd) -> None:
    crowd.call(0, seen=True)
    stop = StopToken()
    stop.set(StopReason.DRAINED)
    with pytest.raises(RunStopped):
        crowd.batcher.run({"x": np.ones((1, 2), np.float32)}, stop)
    crowd.let_go()
    assert crowd.model.seen == [[0]]


def three_in_one_run(crowd: Crowd) -> list[StopToken]:
    """1, 2 and 3 share a run that is under way; 1 leads."""
    first = crowd.call(0, seen=True)
    stops = [crowd.call(value) for value in (1, 2, 3)]
    first.set(StopReason.CANCELLED)
    eventually(lambda: [1.0, 2.0, 3.0] in crowd.model.seen)
    return stops


def test_stopped_call_leaves_a_joined_run_that_goes_on_for_the_others(crowd: Crowd) -> None:
    stops = three_in_one_run(crowd)
    stops[1].set(StopReason.CANCELLED)
    crowd.threads[2].join(10)
    assert crowd.values() == {0: "cancelled", 2: "cancelled"}
    crowd.let_go()
    assert crowd.values() == {0: "cancelled", 1: 2, 2: "cancelled", 3: 6}
    assert len(crowd.model.seen) == 2


def test_joined_run_ends_when_all_its_calls_are_stopped(crowd: Crowd) -> None:
    stops = three_in_one_run(crowd)
    for stop in stops:
        stop.set(StopReason.CANCELLED)
    for thread in crowd.threads.values():
        thread.join(10)
    assert set(crowd.values().values()) == {"cancelled"}
    assert crowd.model.ended == [StopReason.CANCELLED] * 2
    assert len(crowd.model.seen) == 2


def test_stopped_leader_gets_out_of_a_long_run_and_the_others_run_again(crowd: Crowd) -> None:
    stops = three_in_one_run(crowd)
    stops[0].set(StopReason.CANCELLED)
    crowd.threads[1].join(10)
    assert crowd.values() == {0: "cancelled", 1: "cancelled"}
    crowd.let_go()
    assert crowd.values() == {0: "cancelled", 1: "cancelled", 2: 4, 3: 6}
    assert crowd.model.seen[2:] == [[2, 3]]


def test_preferred_size_goes_before_a_larger_one(model: HeldModel) -> None:
    crowd = proven(Crowd(model, preferred=[2, 4]))
    crowd.call(0, seen=True)
    for value in range(1, 8):
        crowd.call(value)
    crowd.let_go()
    assert [len(run) for run in model.seen] == [1, 4, 2, 1]


def test_batch_waits_for_company_until_a_preferred_size_is_there(model: HeldModel) -> None:
    crowd = proven(Crowd(model, preferred=[3], max_delay_ms=60_000))
    model.gate.set()
    for value in (1, 2):
        crowd.call(value)
    assert model.seen == []
    crowd.call(3)
    crowd.let_go()
    assert model.seen == [[1, 2, 3]]


def test_batch_that_is_full_does_not_wait(model: HeldModel) -> None:
    crowd = proven(Crowd(model, max_delay_ms=60_000))
    model.gate.set()
    for value in range(8):
        crowd.call(value)
    crowd.let_go()
    assert [len(run) for run in model.seen] == [8]


def test_call_waits_for_company_no_longer_than_said(model: HeldModel) -> None:
    crowd = proven(Crowd(model, max_delay_ms=50))
    model.gate.set()
    crowd.call(1)
    crowd.let_go()
    assert crowd.values() == {1: 2}
    assert crowd.waits[0] >= 0.045


def test_as_many_run_at_once_as_there_are_instances(model: HeldModel) -> None:
    crowd = proven(Crowd(model, instances=2))
    for value in (0, 1):
        crowd.call(value, seen=True)
    for value in (2, 3):
        crowd.call(value)
    crowd.let_go()
    assert model.seen[:2] == [[0], [1]]
    assert sorted(value for run in model.seen for value in run) == [0, 1, 2, 3]


@pytest.mark.parametrize(("paced", "sizes"), [(True, [1, 1, 4, 4]), (False, [1, 1, 1, 7])])
def test_instances_that_begin_together_share_what_waits_where_runs_are_paced(
    model: HeldModel, monkeypatch: pytest.MonkeyPatch, *, paced: bool, sizes: list[int]
) -> None:
    crowd = proven(Crowd(model, instances=2, paced=paced))
    for value in (0, 1):
        crowd.call(value, seen=True)
    for value in range(2, 10):
        crowd.call(value)
    both, beside = threading.Barrier(2), threading.Barrier(2)
    # Neither ends before both have begun.
    model.answer = lambda x: 2 * x if x[0, 0] < 2 or beside.wait(10) >= 0 else x
    monkeypatch.setattr(crowd.batcher._returning, "wait", lambda waiting: both.wait(10))
    crowd.let_go()
    assert sorted(map(len, model.seen)) == sizes


def test_a_batch_that_waited_for_company_is_not_torn_apart_to_share_it(model: HeldModel) -> None:
    crowd = proven(Crowd(model, instances=2, paced=True, max_delay_ms=60_000))
    for value in range(8):
        crowd.call(value)
    crowd.let_go()
    assert model.seen == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_output_without_the_batch_axis_ends_batching_in_words_and_nobody_gets_a_wrong_answer(model: HeldModel) -> None:
    model.answer = lambda x: x.sum(axis=0, keepdims=True)
    crowd = Crowd(model)
    crowd.call(0, seen=True)
    for value in (1, 2, 3):
        crowd.call(value)
    crowd.let_go()
    assert crowd.values() == {0: 0, 1: 1, 2: 2, 3: 3}
    fault = crowd.batcher.fault
    assert fault is not None
    assert "the output 'y' is [1, 2] for a batch of 3" in fault.message
    assert model.seen == [[0], [1, 2, 3], [1], [2], [3]]
    crowd.batcher.run({"x": np.ones((2, 2), np.float32)}, StopToken())
    assert model.seen[-1] == [1, 1]


def test_model_whose_rows_depend_on_each_other_is_found_out_and_nobody_gets_a_wrong_answer(model: HeldModel) -> None:
    model.answer = lambda x: x * len(x)
    crowd = Crowd(model)
    for turn in range(8):
        model.gate.clear()
        crowd.call(100 * turn, seen=True)
        for value in (1, 2, 3):
            crowd.call(100 * turn + value)
        crowd.let_go()
    assert all(value == answer for value, answer in crowd.values().items())
    assert crowd.batcher.fault is not None
    assert "rows depend on their neighbours" in crowd.batcher.fault.message


def test_first_batch_is_compared_with_an_unbatched_run_and_later_ones_are_not(model: HeldModel) -> None:
    crowd = Crowd(model)
    for turn in (0, 10):
        model.gate.clear()
        crowd.call(turn, seen=True)
        for value in (1, 2):
            crowd.call(turn + value)
        crowd.let_go()
    assert model.seen == [[0], [1, 2], [1], [10], [11, 12]]
    assert crowd.batcher.fault is None


def test_graph_that_fails_in_every_batch_and_never_alone_is_not_batched_any_more(model: HeldModel) -> None:
    def one_at_a_time(x: Array) -> Array:
        if len(x) > 1:
            raise ModelError("the model failed: Reshape", code="inference-failed")
        return x

    model.answer = one_at_a_time
    crowd = Crowd(model)
    for turn in range(4):
        model.gate.clear()
        crowd.call(100 * turn, seen=True)
        for value in (1, 2, 3):
            crowd.call(100 * turn + value)
        crowd.let_go()
    assert all(value == answer for value, answer in crowd.values().items())
    assert crowd.batcher.fault is not None


def test_inputs_that_fail_alone_too_say_nothing_against_batches(model: HeldModel) -> None:
    def out_of_range(x: Array) -> Array:
        raise ModelError("the model failed: indices element out of data bounds", code="inference-failed")

    model.answer = out_of_range
    crowd = Crowd(model)
    for turn in range(4):
        model.gate.clear()
        crowd.call(100 * turn, seen=True)
        for value in (1, 2, 3):
            crowd.call(100 * turn + value)
        crowd.let_go()
    assert set(crowd.values().values()) == {"inference-failed"}
    assert crowd.batcher.fault is None


def test_unforeseen_error_of_a_leader_reaches_only_calls_that_cause_it(crowd: Crowd) -> None:
    def fragile(x: Array) -> Array:
        if (x == 2).any():
            raise FleetError("unexpected")
        return x

    crowd.model.answer = fragile
    crowd.call(0, seen=True)
    for value in (1, 2, 3):
        crowd.call(value)
    crowd.let_go()
    assert crowd.values() == {0: 0, 1: 1, 2: "internal-error", 3: 3}


def test_call_that_bounds_its_run_is_joined_with_no_more(crowd: Crowd) -> None:
    crowd.call(0, seen=True)
    for value, most in ((1, None), (2, 2), (3, None), (4, None)):
        crowd.call(value, most_rows=most)
    crowd.let_go()
    assert crowd.model.seen == [[0], [1, 2], [3, 4]]
