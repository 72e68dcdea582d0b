"""How many rows share a run on a CPU: as many as make a row faster, found by the runs themselves."""

from collections.abc import Callable
from itertools import count, islice

import numpy as np
import pytest

from fleet.contracts import Priority
from worker.engine.batch_pace import Pace
from worker.engine.batch_queue import BatchQueue, Call
from worker.engine.manifest import Batching
from worker.stop import StopToken

BUCKET = (("x", "<f4", (3, 224, 224)),)
OTHER = (("x", "<f4", (3, 640, 640)),)
#: Seconds of a run of so many rows.
Cost = Callable[[int], float]


def weights_read_once(rows: int) -> float:
    return 0.030 + 0.001 * rows


def same_for_each_row(rows: int) -> float:
    return 0.006 * rows


def out_of_the_cache(rows: int) -> float:
    """A twentieth more a row each time that the rows double."""
    return 0.200 * rows * (1 + 0.05 * (rows - 1).bit_length())


def best_at_four(rows: int) -> float:
    return 0.010 + 0.010 * rows + 0.002 * max(0, rows - 4) ** 2


def sizes(pace: Pace, cost: Cost, waiting: int, runs: int) -> list[int]:
    """Rows of so many runs that follow each other, while always so many rows wait."""
    made = []
    for _ in range(runs):
        rows = min(waiting, pace.most_rows(BUCKET))
        pace.learn(BUCKET, rows, cost(rows))
        made.append(rows)
    return made


def usual(made: list[int]) -> int:
    return max(set(made), key=made.count)


@pytest.mark.parametrize(
    ("cost", "rows"), [(weights_read_once, 16), (same_for_each_row, 1), (out_of_the_cache, 1), (best_at_four, 4)]
)
def test_as_many_share_a_run_as_gain_by_it(cost: Cost, rows: int) -> None:
    pace = Pace()
    sizes(pace, cost, 1, 20)
    sizes(pace, cost, 16, 200)
    made = sizes(pace, cost, 16, 64)
    assert usual(made) == rows
    assert made.count(rows) >= len(made) * 7 // 8


@pytest.mark.parametrize(("cost", "rows"), [(weights_read_once, 16), (out_of_the_cache, 1), (best_at_four, 4)])
def test_who_was_never_seen_alone_is_found_out_too(cost: Cost, rows: int) -> None:
    pace = Pace()
    sizes(pace, cost, 16, 200)
    assert usual(sizes(pace, cost, 16, 64)) == rows


def test_nothing_is_limited_before_something_was_seen() -> None:
    pace = Pace()
    assert pace.most_rows(BUCKET) > 1_000_000
    pace.learn(BUCKET, 1, 0.2)
    assert pace.most_rows(BUCKET) > 1_000_000


def test_one_run_beside_others_does_not_make_a_size_slow() -> None:
    pace = Pace()
    sizes(pace, weights_read_once, 16, 40)
    pace.learn(BUCKET, 16, 10 * weights_read_once(16))
    assert usual(sizes(pace, weights_read_once, 16, 32)) == 16


def test_what_has_changed_is_learned_anew() -> None:
    pace = Pace()
    sizes(pace, out_of_the_cache, 1, 20)
    sizes(pace, out_of_the_cache, 16, 100)
    cheaper = (lambda rows: 0.05 + 0.02 * rows for _ in count())
    for cost in islice(cheaper, 2000):
        sizes(pace, cost, 16, 1)
    assert usual(sizes(pace, next(cheaper), 16, 64)) == 16


def test_shapes_are_told_apart_and_those_of_long_ago_forgotten() -> None:
    pace = Pace()
    pace.learn(BUCKET, 1, 0.2)
    pace.learn(BUCKET, 16, 4.0)
    assert pace.most_rows(BUCKET) == 1
    assert pace.most_rows(OTHER) > 1_000_000
    for side in range(300, 600):
        pace.learn((("x", "<f4", (3, side, side)),), 1, 0.2)
    assert pace.most_rows(BUCKET) > 1_000_000


def queue_of(rows: list[int], pace: Pace | None) -> BatchQueue:
    queue = BatchQueue(Batching(max_batch_size=32, dynamic=True), pace)
    for number, own in enumerate(rows):
        queue.add(
            Call(
                feeds={"x": np.zeros((own, 4), np.float32)},
                rows=own,
                bucket=BUCKET,
                stop=StopToken(),
                priority=Priority.NORMAL,
                number=number,
                runs_before=0,
                came_at=0.0,
                waits_until=0.0,
            )
        )
    return queue


def batches(queue: BatchQueue, forming: list[int]) -> list[list[int]]:
    """forming: other leaders that put a batch together, as each batch is."""
    made = []
    for others in forming:
        leader = queue.next_leader(0.0)
        made.append([call.rows for call in queue.company(leader, others)] if leader else [])
    return made


def test_leaders_share_what_waits() -> None:
    assert batches(queue_of([1] * 7, Pace()), [1, 0]) == [[1] * 4, [1] * 3]
    assert batches(queue_of([1] * 9, Pace()), [2, 1, 0]) == [[1] * 3, [1] * 3, [1] * 3]


def test_a_call_of_many_rows_is_not_torn_apart_to_share_it() -> None:
    assert batches(queue_of([6, 1, 1], Pace()), [1, 0]) == [[6], [1, 1]]


def test_without_a_pace_all_that_fits_shares_a_run() -> None:
    assert batches(queue_of([1] * 7, None), [1, 0]) == [[1] * 7, []]


def test_a_queue_takes_along_no_more_than_the_pace_allows() -> None:
    pace = Pace()
    queue = queue_of([1] * 5, pace)
    for rows in (1, 2, 4):
        pace.learn(BUCKET, rows, best_at_four(rows) if rows < 4 else 1.0)
    assert [len(batch) for batch in batches(queue, [0, 0, 0])] == [2, 2, 1]
