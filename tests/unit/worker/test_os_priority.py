"""Bulk work on a CPU steps back; nothing else does unless it is told to."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.contracts import Lane, Pool
from fleet.settings import Settings
from worker.os_priority import wanted_nice

#: Steps back with two threads there already and one begun after, and starts a child in a session of its own.
TOLD = """
import os, subprocess, sys, threading
from pathlib import Path
from worker.os_priority import step_back

begun, go = threading.Event(), threading.Event()
early = threading.Thread(target=lambda: (begun.set(), go.wait()))
early.start()
begun.wait()
step_back(int(sys.argv[1]))
late = threading.Thread(target=go.wait)
late.start()
threads = {os.getpriority(os.PRIO_PROCESS, int(t.name)) for t in Path("/proc/self/task").iterdir()}
child = "from worker.children import step_back_in_session as back; back(); print(open('/proc/self/autogroup').read())"
said = subprocess.run([sys.executable, "-c", child], start_new_session=True, capture_output=True, text=True).stdout
print(sorted(threads), open("/proc/self/autogroup").read().split()[-1], said.split()[-1])
go.set()
"""


def settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **changes)


@pytest.mark.parametrize(
    ("lanes", "pool", "asked", "nice"),
    [
        ([Lane.BULK], Pool.CPU, None, 10),
        ([Lane.BULK], Pool.GPU, None, 0),
        ([Lane.INTERACTIVE], Pool.CPU, None, 0),
        ([Lane.INTERACTIVE, Lane.BULK], Pool.CPU, None, 0),
        ([Lane.BULK], Pool.CPU, 0, 0),
        ([Lane.INTERACTIVE], Pool.GPU, 5, 5),
    ],
)
def test_bulk_alone_on_a_cpu_steps_back_unless_told_otherwise(
    lanes: list[Lane], pool: Pool, asked: int | None, nice: int
) -> None:
    assert wanted_nice(settings(worker_lanes=lanes, worker_nice=asked), pool) == nice


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no groups of sessions here")
@pytest.mark.parametrize(("before", "wanted", "after"), [(0, 10, 10), (0, 0, 0), (15, 10, 15)])
def test_every_thread_the_session_and_the_children_step_back(before: int, wanted: int, after: int) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    said = subprocess.run(
        ["nice", "-n", str(before), sys.executable, "-c", TOLD, str(wanted)],
        start_new_session=True,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    most = max(own + before, wanted)
    assert most >= after
    assert said.split() == [f"[{most}]", str(most), str(most)]
