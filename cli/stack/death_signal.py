"""Children end with their parent, also when it is killed: on Linux, by the kernel."""

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` that asks the kernel to send the signal when the *thread* that forks has ended.

    None where there is no such thing: there `reap` ends what is left at the next start.
    """
    if _LIBC is None:
        return None
    libc, parent, value = _LIBC, os.getpid(), int(number)

    def ask_the_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, value)
        # The parent may have died before the call; then no signal will come.
        if os.getppid() != parent:
            os._exit(1)

    return ask_the_kernel


@contextmanager
def forking() -> Iterator[None]:
    """Around the Popen. From 3.12 Python warns of any preexec_fn in a process with threads: it might meet a lock
    that another thread held. Ours takes none and imports nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
