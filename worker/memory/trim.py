"""Tells the C allocator what to do with freed memory, where it has a way to be told (glibc)."""

import ctypes
from collections.abc import Callable
from contextlib import suppress

#: Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed(up_to_bytes: int) -> None:
    """So much of what was freed, in blocks of up to half of it, stays with each arena, rather than to be mapped anew.

    up_to_bytes: at most 64 MiB. A page that is touched for the first time costs more than most of what is done with it,
    and a picture of a megapixel with its network's input has three thousand. glibc comes to 64 MiB by itself, but only
    once a block of 32 MiB was freed.
    """
    with suppress(OSError, AttributeError):
        mallopt: Callable[[int, int], int] = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, up_to_bytes // 2)
        mallopt(_TRIM_THRESHOLD, up_to_bytes)


def trim() -> None:
    """Takes milliseconds. Without it, freed blocks below 32 MiB may stay with the process and hide what a run takes."""
    with suppress(OSError, AttributeError):
        malloc_trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        malloc_trim(0)
