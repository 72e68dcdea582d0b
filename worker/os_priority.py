"""The priority of a worker process among the others of its machine: an embedding is not to wait behind a volume.

A process that does bulk jobs alone on a CPU steps back by itself; what it starts inherits that. It is weighted down,
not put to sleep: beside a machine full of other work it still gets its share, and its leases are renewed.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from fleet.contracts import Lane, Pool
from fleet.settings import Settings
from worker.children import step_back_in_session

_BULK_NICE = 10
_THREADS = Path("/proc/self/task")


def wanted_nice(settings: Settings, pool: Pool) -> int:
    """0 to 19: what WORKER_NICE says, else by lanes and device."""
    if settings.worker_nice is not None:
        return settings.worker_nice
    return _BULK_NICE if pool is Pool.CPU and set(settings.worker_lanes) == {Lane.BULK} else 0


def step_back(nice: int) -> int:
    """Makes this process as nice as that; one that is nicer already stays so. The niceness it has now."""
    nice = max(nice, os.getpriority(os.PRIO_PROCESS, 0))
    # On Linux each thread has its own, and hands it to those that it starts.
    for thread in _own_threads():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, nice)
    step_back_in_session()
    return nice


def _own_threads() -> list[int]:
    if sys.platform != "linux":
        return [0]
    return [int(entry.name) for entry in _THREADS.iterdir()]
