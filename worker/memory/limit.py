"""What this worker may use at most, who says so, and what is in use right now."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from worker.memory.cgroup import Cgroup, find_cgroup

GIB, MIB = 1024**3, 1024**2
#: File systems whose files are memory.
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class LimitedBy(StrEnum):
    """Whose limit is the lowest, as errors and logs name it."""

    SETTING = "WORKER_MEMORY_BYTES"
    CGROUP = "cgroup"
    MACHINE = "machine"


@dataclass(frozen=True)
class Limit:
    """The lowest of the setting, the cgroup's limit and the machine's memory."""

    bytes: int
    by: LimitedBy

    @property
    def reserve_bytes(self) -> int:
        """Kept back for what no estimate covers: a twentieth, at least 192 MiB and at most 1 GiB.

        It holds code pages, the decoders while they read headers, Python's and the allocator's own leavings.
        """
        return min(max(self.bytes // 20, 192 * MIB), GIB)


def find_limit(setting_bytes: int, cgroup: Cgroup | None = None) -> Limit:
    """`setting_bytes` is WORKER_MEMORY_BYTES; 0 leaves it to the cgroup and the machine."""
    found = [Limit(psutil.virtual_memory().total, LimitedBy.MACHINE)]
    confined = (cgroup or find_cgroup()).limit_bytes
    if confined is not None:
        found.append(Limit(confined, LimitedBy.CGROUP))
    if setting_bytes:
        found.append(Limit(setting_bytes, LimitedBy.SETTING))
    return min(found, key=lambda limit: limit.bytes)


def free_bytes(cgroup: Cgroup) -> int:
    """What the machine and the cgroup could still give, to whomever."""
    confined, machine = cgroup.free_bytes(), psutil.virtual_memory().available
    return machine if confined is None else min(machine, confined)


def used_bytes() -> int:
    """Memory of this process and all its children that no file backs, and that only they can give back."""
    return sum(held_bytes(pid) for pid in _family(os.getpid()))


def _family(pid: int) -> Iterator[int]:
    """A process and those that it started."""
    yield pid
    for child in started_by(pid):
        yield from _family(child)


def started_by(pid: int) -> list[int]:
    """The children of a process. Not those still to become another program: their memory is their parent's."""
    try:
        found = [child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
        own = Path(f"/proc/{pid}/cmdline").read_bytes()
        return [int(child) for child in found if Path(f"/proc/{child}/cmdline").read_bytes() != own]
    except OSError:
        return []


def held_bytes(pid: int) -> int:
    """Anonymous and shared pages of one process, 0 when it is gone; its resident set where /proc is not Linux's."""
    try:
        with Path(f"/proc/{pid}/status").open("rb") as status:
            fields = dict(line.split(b":", 1) for line in status if line.startswith((b"RssAnon", b"RssShmem")))
    except (FileNotFoundError, ProcessLookupError):
        fields = {}
    if fields:
        return sum(1024 * int(value.split()[0]) for value in fields.values())
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def lies_in_memory(folder: Path) -> bool:
    """Whether files in this folder take memory instead of disk."""
    parts = psutil.disk_partitions(all=True)
    holding = [part for part in parts if folder.resolve().is_relative_to(part.mountpoint)]
    # Of two mounts at one place the later one is seen.
    innermost = max(enumerate(holding), key=lambda one: (len(one[1].mountpoint), one[0]), default=None)
    return innermost is not None and innermost[1].fstype in _IN_MEMORY
