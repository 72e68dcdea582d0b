"""How a process ended, in words for the record: its signal or exit code, and whether memory had run out."""

import signal
from pathlib import Path

from worker.exits import MEANINGS, ExitCode

_CGROUP = Path("/sys/fs/cgroup")
_PLACES = (
    (_CGROUP / "memory.events", "oom_kill"),
    (_CGROUP / "memory" / "memory.oom_control", "oom_kill"),
    (Path("/proc/vmstat"), "oom_kill"),
)


def oom_kills() -> int | None:
    """How often the kernel has killed for lack of memory so far: in our cgroup, else on the machine. None: unknown."""
    for path, name in (*_own_cgroup(), *_PLACES):
        try:
            fields = dict(line.split(maxsplit=1) for line in path.read_text("ascii").splitlines())
            return int(fields[name])
        except (OSError, KeyError, ValueError):
            continue
    return None


def _own_cgroup() -> list[tuple[Path, str]]:
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return []
    # Version 2 has one line, `0::/path`; in a container the path is that of its own root.
    paths = [line.partition("::")[2] for line in lines if line.startswith("0::")]
    return [(_CGROUP / path.lstrip("/") / "memory.events", "oom_kill") for path in paths]


def how_it_ended(code: int, *, killed_for: str | None = None, oom_kills: int = 0) -> str:
    """`code` as subprocess gives it, negative for a signal; `oom_kills` happened while the process lived."""
    if killed_for is not None:
        return f"killed by whoever watched it: {killed_for}"
    if code < 0:
        hint = "; the kernel killed for lack of memory meanwhile" if oom_kills and code == -signal.SIGKILL else ""
        return f"killed by {_signal_name(-code)}{hint}"
    meaning = MEANINGS.get(ExitCode(code)) if code in list(ExitCode) else None
    return f"ended with exit code {code}" + (f": {meaning}" if meaning else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
