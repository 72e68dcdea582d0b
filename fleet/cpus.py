"""How many cores this process may use."""

import os
from pathlib import Path

from fleet.cgroups import PROC, cgroup_folders


def usable_cpus(proc: Path = PROC) -> int:
    """Cores that this process may use: its affinity (a cpuset shows there), and the quota of its control group.

    Of a quota that is no whole number of cores the fraction is left: a thread too many is stopped by the kernel
    together with all others. At least 1.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [
        quota
        for version, folders in cgroup_folders("cpu", proc)
        for folder in folders
        if (quota := _quota(folder, version)) is not None
    ]
    return max(1, min(count, *map(int, quotas))) if quotas else count


def _quota(folder: Path, version: int) -> float | None:
    """Cores; None without a limit, and where there are no such files."""
    try:
        if version == 2:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        # Without a limit the quota is "max", in version 1 it is -1.
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
