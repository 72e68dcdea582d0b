"""A worker's row goes when the worker does, whichever way that is."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.catalogue import ALIVE_S
from fleet.settings import Settings
from tests.support.fleet_of_one import worker_process
from tests.support.helped_out import Record, record_of
from tests.support.waiting import eventually
from tests.support.watched_worker import watched_worker


@pytest.fixture
def record(settings: Settings) -> Iterator[Record]:
    with record_of(settings) as opened:
        yield opened


def pids(record: Record) -> set[int]:
    return {row["pid"] for row in record.database.run("SELECT pid FROM worker")}


def test_the_row_of_a_killed_worker_of_fleet_work_is_gone_at_once(record: Record, tmp_path: Path) -> None:
    with watched_worker(record.settings, tmp_path):
        eventually(lambda: pids(record))
        (killed,) = pids(record)
        os.kill(killed, signal.SIGKILL)
        # Less than the row would be believed without a burial.
        eventually(lambda: killed not in pids(record), within_s=ALIVE_S - 5)
        eventually(lambda: pids(record) - {killed})
    assert pids(record) == set()


def test_a_killed_worker_without_a_watcher_is_not_counted_on_for_long(record: Record, tmp_path: Path) -> None:
    with worker_process(record.settings, tmp_path, WORKER_NAME="bare") as process:
        eventually(lambda: record.word("bare"), errors=(KeyError,))
        process.kill()
        process.wait()
    assert [live.word.name for live in record.catalogue.workers()] == ["bare"]
    record.database.run("UPDATE worker SET seen_at = seen_at - %(s)s * interval '1 second'", {"s": ALIVE_S})
    assert record.catalogue.workers() == []
    assert record.catalogue.get("echo").ready_workers == 0
