"""What the lanes of a job hold together: none that waits for memory keeps the others from giving theirs back."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.errors import InputTooLarge
from worker.memory.budget import Budget
from worker.memory.limit import GIB, MIB, Limit, LimitedBy
from worker.memory.share import Memory
from worker.pictures.ledger import Ledger
from worker.progress import JobProgress
from worker.stop import StopToken

PATIENCE_S = 20.0


class Run(JobProgress):
    """Of a job in a process whose jobs may take a GiB together."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(StopToken())
        self.share = memory.share(lambda seconds: None)


@pytest.fixture
def memory() -> Memory:
    limit = Limit(GIB + 192 * MIB, LimitedBy.SETTING)
    return Memory(Budget(limit, used=lambda: 0, free=lambda: 100 * GIB, patience_s=PATIENCE_S), Path("/"), False)


def held(memory: Memory) -> int:
    return memory.budget.granted_bytes // MIB


def test_parts_add_up_and_are_given_back(memory: Memory) -> None:
    ledger = Ledger(Run(memory), 0)
    ledger.take("work", 100 * MIB)
    with ledger.part() as one, ledger.part() as other:
        one("reading", 300 * MIB)
        other("reading", 200 * MIB)
        assert held(memory) == 600
        one("a picture", 50 * MIB)
        assert held(memory) == 350
    assert held(memory) == 100


def test_what_is_refused_is_not_held(memory: Memory) -> None:
    ledger = Ledger(Run(memory), 0)
    with ledger.part() as one:
        one("reading", 300 * MIB)
        with pytest.raises(InputTooLarge):
            one("reading", 2 * GIB)
        assert held(memory) == 300
    assert held(memory) == 0


def test_two_jobs_whose_lanes_wait_for_each_other_both_go_on(memory: Memory) -> None:
    """Each has read a picture and begins another one beside it, for which both of them together have no room."""
    runs = [Run(memory), Run(memory)]
    both_hold = threading.Barrier(2, timeout=PATIENCE_S)

    def job(run: Run) -> None:
        ledger = Ledger(run, 0)

        def second() -> None:
            with ledger.part() as admit:
                admit("reading a picture", 400 * MIB)
                admit("a picture", 20 * MIB)

        with ThreadPoolExecutor(1) as lane, ledger.part() as admit:
            admit("reading a picture", 400 * MIB)
            both_hold.wait()
            waiting = lane.submit(second)
            while not (waiting.done() or memory.budget.waiting):
                time.sleep(0.01)
            admit("a picture", 20 * MIB)
            waiting.result()

    with ThreadPoolExecutor(2) as pool:
        for ended in [pool.submit(job, run) for run in runs]:
            ended.result()
    assert held(memory) == 0
