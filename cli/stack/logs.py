"""Keeps the children's logs bounded.

A child writes straight to its file, never to a pipe: a pipe that nobody empties stops the server behind it. It
holds that file open for good, so the file is copied away and cut to nothing in place; the child appends (O_APPEND)
and goes on at the new end. What it writes in the microseconds between the copy and the cut is lost.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LogLimit:
    """At most about `max_bytes` × (`generations` + 1) per process; `name.log.1` is the youngest old one."""

    max_bytes: int = 16 * 1024**2
    generations: int = 3


def open_log(path: Path) -> int:
    """A descriptor to give to a child as stdout and stderr."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def rotate(path: Path, limit: LogLimit) -> bool:
    """Rotates the file if it has outgrown the limit; returns whether it did."""
    try:
        if path.stat().st_size <= limit.max_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(limit.generations, 1, -1):
        younger = _generation(path, number - 1)
        if younger.exists():
            younger.replace(_generation(path, number))
    with path.open("r+b") as log:
        try:
            with _generation(path, 1).open("wb") as copy:
                os.fchmod(copy.fileno(), 0o600)
                shutil.copyfileobj(log, copy)
        except OSError:
            # On a full disk the bound matters more than the old lines.
            _generation(path, 1).unlink(missing_ok=True)
        log.truncate(0)
    return True


def tail(path: Path, max_bytes: int = 2000) -> str:
    """The last whole lines of a log, for a message about a process that failed."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - max_bytes))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    if size > max_bytes:
        text = text.partition("\n")[2]
    return text.strip()


def _generation(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
