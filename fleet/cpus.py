"""How many cores this process may use."""

import os
from pathlib import Path


def usable_cpus() -> int:
    """Cores that this process may use, after affinity and cgroup quota (v2, then v1)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return count
