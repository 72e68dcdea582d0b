"""Processor time of a stack's processes, by what they are, while clients ask it."""

from collections import Counter
from collections.abc import Iterator

import psutil

#: In the command line of a process -> what it is; the first that fits counts.
_KINDS = {
    "worker.media": "decoders",
    "-m worker": "worker",
    "-m api": "front door",
    "postgres": "PostgreSQL",
    "valkey": "Redis",
    "weed": "object store",
    "multiprocessing": "clients",
}


def used_ms() -> Counter[str]:
    """Of the children of this process and theirs, since they began; ended ones are left out."""
    used: Counter[str] = Counter()
    for kind, process in _processes():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        used[kind] += round(1000 * (times.user + times.system))
    return used


def _processes() -> Iterator[tuple[str, psutil.Process]]:
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        yield next((kind for sign, kind in _KINDS.items() if sign in line), "others"), process
