"""The memory controller of the cgroup that this process is in, and of those around it: version 2, then 1.

Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fleet.cgroups import PROC, cgroup_folders

#: Version 1 says "no limit" as a number of pages that no machine has.
_NO_LIMIT = 2**60


@dataclass(frozen=True)
class _Version:
    """What the files of a controller are called."""

    limits: tuple[str, ...]
    usage: str
    #: Pages of files that the kernel gives back before it kills: lines of `memory.stat`.
    reclaimable: tuple[str, ...]


_V2 = _Version(("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file"))
_V1 = _Version(("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


@dataclass(frozen=True)
class Cgroup:
    """`folders` are this process's own cgroup and the ones around it that can be seen, innermost first."""

    folders: tuple[Path, ...] = ()
    version: _Version = _V2

    @property
    def limit_bytes(self) -> int | None:
        """The lowest limit of all levels; None when none has one."""
        limits = [limit for folder in self.folders if (limit := self._limit(folder)) is not None]
        return min(limits, default=None)

    def free_bytes(self) -> int | None:
        """What may still be allocated before a limit is met, file pages counted as free; None without a limit."""
        return min(self._free(), default=None)

    def _free(self) -> Iterator[int]:
        for folder in self.folders:
            limit, used = self._limit(folder), _number(folder / self.version.usage)
            if limit is None or used is None:
                continue
            stat = _fields(folder / "memory.stat")
            files = sum(stat.get(name, 0) for name in self.version.reclaimable)
            yield max(0, limit - max(0, used - files))

    def _limit(self, folder: Path) -> int | None:
        found = [number for name in self.version.limits if (number := _number(folder / name)) is not None]
        return min((number for number in found if number < _NO_LIMIT), default=None)


def find_cgroup(proc: Path = PROC) -> Cgroup:
    """Where the kernel says that this process is; without folders on systems that have no such thing."""
    for number, folders in cgroup_folders("memory", proc):
        version = _V2 if number == 2 else _V1
        if any((folder / version.usage).is_file() for folder in folders):
            return Cgroup(folders, version)
    return Cgroup()


def _number(path: Path) -> int | None:
    """The file's number; None for `max`, and where there is no such file, as in the root cgroup."""
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _fields(path: Path) -> dict[str, int]:
    with suppress(OSError, ValueError):
        return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}
    return {}
