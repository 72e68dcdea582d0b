"""Which process a pid meant: pids are used again, a pid with its start time is not."""

from pathlib import Path

import psutil


def started(pid: int) -> str | None:
    """An opaque word that is equal only for the same process, or None when it has ended.

    On Linux: the boot and the clock tick of its start (proc(5), field 22), which no change of the clock moves.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if psutil.LINUX:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
            # The name, in parentheses, may hold spaces and parentheses of its own.
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            return f"{boot}:{fields[19]}"
        return f"{process.create_time():.2f}"
    except (psutil.Error, OSError):
        return None


def is_running(pid: int, start: str | None) -> bool:
    """Whether the process that was recorded as (pid, start) is still there."""
    return start is not None and started(pid) == start
