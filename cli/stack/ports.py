"""Free TCP ports on loopback.

They are taken below the range from which the system serves outgoing connections (32768 and up on Linux, 49152 on
macOS), so that no passing connection of anybody sits on a port that a server wants back after a restart.
"""

import random
import socket
from collections.abc import Iterable

from fleet.errors import DependencyError

LOOPBACK = "127.0.0.1"
_FIRST, _LAST = 18000, 31999


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now. A host that is not ours is not free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(avoid: Iterable[int] = (), host: str = LOOPBACK) -> int:
    """A port that nobody listens on and that is not in `avoid`. Raises DependencyError when there is none."""
    taken = set(avoid)
    # Not for secrecy: a random choice keeps several stacks that start at once apart.
    candidates = random.sample(range(_FIRST, _LAST + 1), k=_LAST - _FIRST + 1)
    for port in candidates:
        if port not in taken and is_free(port, host):
            return port
    raise DependencyError(f"no free port on {host} between {_FIRST} and {_LAST}", code="no-free-port")


def assign(known: dict[str, int], names: Iterable[str]) -> dict[str, int]:
    """One port per name: the known one where it is still free, else a new one."""
    chosen = dict(known)
    for name in names:
        port = chosen.get(name)
        if port is None or not is_free(port):
            chosen[name] = free_port(avoid=chosen.values())
    return chosen
