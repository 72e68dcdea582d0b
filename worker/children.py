"""What the child processes of a worker get of its environment: where to import from, and no more. No passwords."""

import os
import sys
from contextlib import suppress
from pathlib import Path


def bare_environment(**more: str) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
        "LANG": "C.UTF-8",
        **more,
    }


def device_environment() -> dict[str, str]:
    """For a child that runs a model on the worker's own device: which one that is, and where its libraries lie."""
    names = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in names if name in os.environ}


def die_first() -> None:
    """Called by a child: when memory runs out on Linux, it is the one to go, not the worker."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def step_back_in_session() -> None:
    """Called by a child that leads a session of its own, and by a worker: its session becomes as nice as it is.

    Where Linux groups processes by session (`sched_autogroup_enabled`), niceness counts only within the session, and
    the session has one of its own. That of somebody's terminal is left alone.
    """
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)), "ascii")


def limit_growth(more_bytes: int) -> None:
    """Called by a child: it may write to so much more memory than it maps now; beyond that, allocating fails.

    RLIMIT_DATA counts private writable mappings, as `VmData` does. A no-op where the system has neither.
    """
    import resource

    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        now = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmData:"))
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        soft = now + more_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
