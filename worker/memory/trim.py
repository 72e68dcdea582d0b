"""Makes the C allocator return what it keeps of freed memory, where it has a way to be asked (glibc)."""

import ctypes
from collections.abc import Callable
from contextlib import suppress


def trim() -> None:
    """Takes milliseconds. Without it, freed blocks below 32 MiB may stay with the process and hide what a run takes."""
    with suppress(OSError, AttributeError):
        malloc_trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        malloc_trim(0)
