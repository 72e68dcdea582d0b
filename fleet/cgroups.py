"""Where the kernel keeps the limits of this process's control group: version 2, then 1.

Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the kernel, proc(5) for mountinfo.
"""

from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc/self")


def cgroup_folders(controller: str, proc: Path = PROC) -> Iterator[tuple[int, tuple[Path, ...]]]:
    """(version, folders) of each hierarchy that may have this controller; nothing on systems without such a thing.

    The folders are this process's own group and the ones around it that can be seen, innermost first.
    """
    try:
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [line.split(" ") for line in (proc / "mountinfo").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in groups:
        version = 2 if controllers == "" else 1
        if version == 1 and controller not in controllers.split(","):
            continue
        yield version, tuple(_folders(mounts, version, controller, path))


def _folders(mounts: list[list[str]], version: int, controller: str, path: str) -> Iterator[Path]:
    """From the group's own folder up to where the hierarchy is mounted."""
    for mount in mounts:
        kind, options = mount[mount.index("-") + 1], mount[-1].split(",")
        if kind != ("cgroup2" if version == 2 else "cgroup") or (version == 1 and controller not in options):
            continue
        # Inside a container the mount's root may be the container's own group.
        root, point = mount[3], Path(mount[4])
        inside = path.removeprefix(root) if path.startswith(root) else "/"
        below = [part for part in inside.split("/") if part not in ("", "..")]
        for depth in range(len(below), -1, -1):
            yield point.joinpath(*below[:depth])
        return
