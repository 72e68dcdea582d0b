"""Cores are counted as the kernel grants them: affinity, cpuset, and the quota of each level of control groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.cpus import usable_cpus

HERE = len(os.sched_getaffinity(0))


def process_in(folder: Path, version: int, inside: str, quotas: dict[str, tuple[str, str]]) -> Path:
    """/proc/self and a hierarchy in which each group of `quotas` has this (quota, period) in microseconds."""
    proc, mounted = folder / "proc", folder / "cgroup"
    proc.mkdir()
    for group, (quota, period) in quotas.items():
        place = mounted / group
        place.mkdir(parents=True, exist_ok=True)
        if version == 2:
            (place / "cpu.max").write_text(f"{quota} {period}\n")
        else:
            (place / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (place / "cpu.cfs_period_us").write_text(f"{period}\n")
    kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,cpu,cpuacct"
    (proc / "mountinfo").write_text(f"30 20 0:26 / {mounted} rw shared:4 - {kind}\n")
    (proc / "cgroup").write_text(f"0::/{inside}\n" if version == 2 else f"4:cpu,cpuacct:/{inside}\n")
    return proc


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("quota", "cores"), [("100000", 1), ("150000", 1), ("20000", 1), ("900000000", HERE)])
def test_quota_limits_the_cores_and_leaves_at_least_one(tmp_path: Path, version: int, quota: str, cores: int) -> None:
    proc = process_in(tmp_path, version, "job", {"job": (quota, "100000")})
    assert usable_cpus(proc) == cores


@pytest.mark.parametrize(("version", "unlimited"), [(2, "max"), (1, "-1")])
def test_group_without_a_quota_limits_nothing(tmp_path: Path, version: int, unlimited: str) -> None:
    assert usable_cpus(process_in(tmp_path, version, "job", {"job": (unlimited, "100000")})) == HERE


@pytest.mark.parametrize(("version", "unlimited"), [(2, "max"), (1, "-1")])
def test_quota_of_an_outer_group_counts_for_those_inside(tmp_path: Path, version: int, unlimited: str) -> None:
    quotas = {"outer": ("100000", "100000"), "outer/inner": (unlimited, "100000")}
    assert usable_cpus(process_in(tmp_path, version, "outer/inner", quotas)) == 1


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == HERE


def test_affinity_of_the_process_counts() -> None:
    alone = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    program = f"{alone}; import fleet.cpus as c; print(c.usable_cpus())"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "1"
