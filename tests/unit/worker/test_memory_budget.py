"""The budget: what fits is granted, what fits later waits its turn, what never fits is refused with the numbers."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.contracts import Stage
from fleet.errors import DependencyError, InputTooLarge, NoCapableWorker, RunStopped
from worker.memory.budget import Budget, Holding, shown
from worker.memory.limit import GIB, MIB, Limit, LimitedBy
from worker.memory.room import ArrayRoom
from worker.memory.share import Memory, Share
from worker.progress import JobProgress
from worker.stop import StopReason, StopToken

LIMIT = Limit(10 * GIB, LimitedBy.SETTING)
#: What LIMIT keeps back, and what the process of these tests is said to hold.
KEPT, FLOOR = 512 * MIB, 1 * GIB
MOST = LIMIT.bytes - KEPT - FLOOR


@dataclass
class Machine:
    """What the process holds and what is free, as a test says."""

    used: int = FLOOR
    free: int = 100 * GIB

    def budget(self, patience_s: float = 60.0, limit: Limit = LIMIT) -> Budget:
        return Budget(limit, used=lambda: self.used, free=lambda: self.free, patience_s=patience_s)


def nothing() -> None:
    pass


def eventually(fact: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def started(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_run_gets_all_that_is_left_above_the_floor_and_the_reserve() -> None:
    budget, mine = Machine().budget(), Holding()
    assert budget.most_bytes == MOST
    assert budget.reserve(mine, MOST, "a volume")
    assert budget.granted_bytes == MOST
    budget.release(mine)
    assert budget.granted_bytes == 0


def test_what_never_fits_is_refused_at_once_with_the_numbers() -> None:
    with pytest.raises(InputTooLarge) as caught:
        Machine().budget().reserve(Holding(), MOST + 1, "a volume of 9 × 9 × 9 voxels")
    assert caught.value.code == "not-enough-memory"
    assert not caught.value.retryable
    assert caught.value.facts == {
        "estimated_bytes": MOST + 1,
        "allowed_bytes": MOST,
        "limit_bytes": LIMIT.bytes,
        "limited_by": "WORKER_MEMORY_BYTES",
    }
    assert caught.value.message.startswith("a volume of 9 × 9 × 9 voxels would take an estimated 8.50 GiB of memory")
    for said in (
        "may take 8.50 GiB",
        "10.00 GiB by WORKER_MEMORY_BYTES",
        "512 MiB kept back",
        "raise WORKER_MEMORY_BYTES",
    ):
        assert said in caught.value.message


@pytest.mark.parametrize(
    ("by", "advice"),
    [(LimitedBy.CGROUP, "raise the memory limit of the worker's container"), (LimitedBy.MACHINE, "more memory")],
)
def test_the_advice_names_what_limits(by: LimitedBy, advice: str) -> None:
    with pytest.raises(InputTooLarge, match=advice) as caught:
        Machine().budget(limit=Limit(GIB, by)).reserve(Holding(), 2 * GIB, "a volume")
    assert caught.value.facts["limited_by"] == by.value


def test_a_refused_run_is_nobody_else_s_business() -> None:
    budget = Machine().budget()
    with pytest.raises(InputTooLarge):
        budget.reserve(Holding(), 2 * MOST, "a volume")
    assert budget.reserve(Holding(), MOST, "a volume")


def test_two_that_fit_only_one_after_the_other_run_one_after_the_other() -> None:
    budget, first, second = Machine().budget(), Holding(), Holding()
    assert budget.reserve(first, 5 * GIB, "one")
    assert not budget.reserve(second, 5 * GIB, "two")
    waiting = started(lambda: budget.wait(second, 5 * GIB, "two", nothing))
    eventually(lambda: budget.waiting == 1)
    assert second.bytes == 0
    budget.release(first)
    waiting.join(20)
    assert (second.bytes, budget.waiting) == (5 * GIB, 0)


def test_who_came_first_is_served_first_even_if_who_came_later_would_fit() -> None:
    budget, first, large, small = Machine().budget(), Holding(), Holding(), Holding()
    budget.reserve(first, 5 * GIB, "one")
    order: list[str] = []

    def wait(holding: Holding, wanted: int, name: str) -> None:
        budget.wait(holding, wanted, name, nothing)
        order.append(name)

    threads = [started(lambda: wait(large, 8 * GIB, "large"))]
    eventually(lambda: budget.waiting == 1)
    assert not budget.reserve(small, 2 * GIB, "small"), "there is room, and somebody waits"
    threads.append(started(lambda: wait(small, 2 * GIB, "small")))
    eventually(lambda: budget.waiting == 2)
    budget.release(first)
    eventually(lambda: order == ["large"])
    budget.release(large)
    for thread in threads:
        thread.join(20)
    assert order == ["large", "small"]


def test_who_holds_memory_already_goes_before_who_waits_for_it() -> None:
    budget, running, large = Machine().budget(), Holding(), Holding()
    assert budget.reserve(running, 2 * GIB, "its model's run")
    waiting = started(lambda: budget.wait(large, 8 * GIB, "large", nothing))
    eventually(lambda: budget.waiting == 1)
    assert budget.reserve(running, 3 * GIB, "its picture"), "else each would wait for the other"
    budget.release(running)
    waiting.join(20)
    assert large.bytes == 8 * GIB


def test_of_two_that_hold_memory_and_wait_for_more_the_one_that_fits_goes_on() -> None:
    budget, large, small = Machine().budget(), Holding(), Holding()
    assert budget.reserve(large, 4 * GIB, "large")
    assert budget.reserve(small, GIB, "small")
    waiting = started(lambda: budget.wait(large, 8 * GIB, "large", nothing))
    eventually(lambda: budget.waiting == 1)
    budget.wait(small, 3 * GIB, "small", nothing)
    assert small.bytes == 3 * GIB
    budget.release(small)
    waiting.join(20)
    assert large.bytes == 8 * GIB


def test_of_two_that_wait_for_each_other_the_lesser_gives_way_and_loses_no_attempt() -> None:
    budget, large, small = Machine().budget(), Holding(), Holding()
    assert budget.reserve(large, 4 * GIB, "large")
    assert budget.reserve(small, 3 * GIB, "small")
    waiting = started(lambda: budget.wait(large, 6 * GIB, "large", nothing))
    with pytest.raises(NoCapableWorker) as caught:
        budget.wait(small, 6 * GIB, "small", nothing)
    assert caught.value.code == "memory-shared-out"
    budget.release(small)
    waiting.join(20)
    assert large.bytes == 6 * GIB


def test_asking_for_less_never_waits_and_lets_others_in() -> None:
    budget, first, second = Machine().budget(), Holding(), Holding()
    budget.reserve(first, 8 * GIB, "one")
    waiting = started(lambda: budget.wait(second, 4 * GIB, "two", nothing))
    eventually(lambda: budget.waiting == 1)
    assert budget.reserve(first, 3 * GIB, "one")
    waiting.join(20)
    assert second.bytes == 4 * GIB


def test_all_there_is_goes_to_a_run_that_is_alone() -> None:
    machine = Machine()
    budget, first, second = machine.budget(), Holding(), Holding()
    budget.reserve(first, GIB, "one")
    waiting = started(lambda: budget.reserve_all(second, nothing))
    eventually(lambda: budget.waiting == 1)
    machine.used += GIB
    budget.release(first)
    waiting.join(20)
    assert second.bytes == MOST - GIB, "what the process holds by then is not there"


def test_caches_are_given_back_before_anybody_waits_or_is_refused() -> None:
    machine = Machine()
    budget, runs = machine.budget(), []

    def give_back() -> None:
        runs.append("given back")
        machine.used = FLOOR

    budget.give_back = give_back
    held = Holding()
    assert budget.reserve(held, 2 * GIB, "one")
    machine.used += 2 * GIB
    budget.release(held)
    assert budget.reserve(held, 5 * GIB, "fits beside what ONNX Runtime kept")
    budget.release(held)
    assert runs == ["given back"], "once, to know what the process itself holds"
    assert budget.reserve(held, MOST, "fits without")
    assert runs == ["given back"] * 2


def test_what_the_process_has_grown_by_is_no_longer_there_for_runs() -> None:
    machine = Machine()
    budget = machine.budget()
    machine.used += GIB
    assert not budget.reserve(Holding(), MOST, "a volume")
    assert budget.most_bytes == MOST - GIB
    with pytest.raises(InputTooLarge):
        budget.wait(Holding(), MOST, "a volume", nothing)
    budget.grew(GIB)
    assert budget.most_bytes == MOST - 2 * GIB


def test_memory_that_others_hold_is_waited_for_and_then_tried_again_later() -> None:
    machine = Machine(free=GIB)
    budget, mine = machine.budget(patience_s=0.2), Holding()
    assert not budget.reserve(mine, 2 * GIB, "a volume")
    with pytest.raises(DependencyError) as caught:
        budget.wait(mine, 2 * GIB, "a volume", nothing)
    assert caught.value.code == "memory-busy"
    assert caught.value.retryable
    assert "1.00 GiB are free" in caught.value.message
    machine.free = 3 * GIB
    assert budget.reserve(mine, 2 * GIB, "a volume")


def test_what_a_neighbour_was_granted_and_has_not_taken_yet_is_not_free() -> None:
    machine = Machine(free=6 * GIB)
    budget, neighbour = machine.budget(), Holding()
    assert budget.reserve(neighbour, 4 * GIB, "one")
    assert not budget.reserve(Holding(), 3 * GIB, "two")
    machine.used, machine.free = FLOOR + 4 * GIB, 2 * GIB
    assert budget.reserve(Holding(), 2 * GIB, "two")


def share_of(budget: Budget, scratch: Path, **changes: object) -> Share:
    values = {"scratch_in_memory": False, **changes}
    return Memory(budget, scratch, **values).share(lambda seconds: None)  # type: ignore[arg-type]


def admitted(share: Share, peak: int, lean: int | None = None, scratch: int = 0) -> ArrayRoom:
    return share.admit("a volume", peak, lean_bytes=lean, scratch_bytes=scratch, check=nothing, queueing=nullcontext)


def test_what_does_not_fit_in_memory_takes_the_lean_way(tmp_path: Path) -> None:
    budget = Machine().budget()
    share = share_of(budget, tmp_path)
    assert not admitted(share, MOST, lean=GIB).on_disk
    assert budget.granted_bytes == MOST
    assert admitted(share, MOST + 1, lean=GIB).on_disk
    assert budget.granted_bytes == GIB
    share.release()
    assert budget.granted_bytes == 0


def test_only_what_is_too_much_either_way_counts_as_refused(tmp_path: Path) -> None:
    refused: list[str] = []
    share = share_of(Machine().budget(), tmp_path, refused=lambda: refused.append("one"))
    admitted(share, MOST + 1, lean=GIB)
    assert refused == []
    with pytest.raises(InputTooLarge):
        admitted(share, MOST + 2, lean=MOST + 1)
    assert refused == ["one"]


def test_files_count_where_the_scratch_folder_is_memory_and_give_no_lean_way(tmp_path: Path) -> None:
    budget = Machine().budget()
    on_disk, in_memory = share_of(budget, tmp_path), share_of(budget, tmp_path, scratch_in_memory=True)
    admitted(on_disk, GIB, scratch=GIB)
    assert budget.granted_bytes == GIB
    on_disk.release()
    admitted(in_memory, GIB, scratch=GIB)
    assert budget.granted_bytes == 2 * GIB
    with pytest.raises(InputTooLarge):
        admitted(in_memory, MOST + 1, lean=GIB)


def test_a_cancelled_run_leaves_the_line_and_the_next_one_moves_up(tmp_path: Path) -> None:
    budget, first, stop = Machine().budget(), Holding(), StopToken()
    budget.reserve(first, 5 * GIB, "one")
    waited: list[float] = []
    second, third = JobProgress(stop), JobProgress(StopToken())
    second.share = Memory(budget, tmp_path, scratch_in_memory=False).share(waited.append)
    third.share = Memory(budget, tmp_path, scratch_in_memory=False).share(waited.append)
    ends: list[str] = []

    def run(progress: JobProgress, wanted: int) -> None:
        try:
            with progress.stage(Stage.DECODE):
                progress.admit("a volume", wanted)
            ends.append("admitted")
        except RunStopped as error:
            ends.append(error.code)

    threads = [started(lambda: run(second, 8 * GIB))]
    eventually(lambda: budget.waiting == 1)
    assert second.shown[0] == "queue"
    threads.append(started(lambda: run(third, 2 * GIB)))
    eventually(lambda: budget.waiting == 2)
    stop.set(StopReason.CANCELLED)
    for thread in threads:
        thread.join(20)
    assert ends == ["cancelled", "admitted"]
    assert budget.granted_bytes == 7 * GIB
    assert third.timings["queue"] > 0
    assert sum(waited) > 0, "the time in line is not the run's"


def test_a_run_without_a_share_is_admitted_whatever_it_asks_for() -> None:
    progress = JobProgress(StopToken())
    assert not progress.admit("a volume", 2**50, lean_bytes=1).on_disk
    assert progress.memory_bytes > 2**50


def test_sizes_are_shown_for_people() -> None:
    assert [shown(count) for count in (0, 1, 5 * MIB, GIB, 9 * GIB // 2)] == [
        "0 MiB",
        "1 MiB",
        "5 MiB",
        "1.00 GiB",
        "4.50 GiB",
    ]
