"""What a worker is called: the same name for the worker itself and for whoever watches it."""

import socket

from fleet.settings import Settings


def worker_name(settings: Settings, pid: int) -> str:
    """The configured name, or one that is unique to the process `pid`."""
    return settings.worker_name or f"worker-{pid}@{socket.gethostname()}"
