"""Pictures that are too large for memory: their pixels lie in a file, of which only what is looked at is read.

They are arrays like any other. Whoever goes through one takes copies of parts, or goes in bands; what was read is
given back at once, so that no more than a band of it counts as ours.
"""

import mmap
from collections.abc import Iterator

import numpy as np

from worker.contract import Array

#: Of the rows that are worked on at a time.
BAND_BYTES = 32 * 1024**2
_ROWS_AT_A_TIME = 16


def mapped(file: int, width: int, height: int) -> Array:
    """uint8 [height, width, 3], read-only: what an open file begins with, row by row. The file may be closed then."""
    length = width * height * 3
    return np.frombuffer(mmap.mmap(file, length, prot=mmap.PROT_READ), np.uint8).reshape(height, width, 3)


def is_on_disk(picture: Array) -> bool:
    """Whether this array, or one that it shows a part of, came of `mapped`."""
    return _file(picture) is not None


def copied(part: Array) -> Array:
    """The part of a picture, in memory of its own and in the order of its rows."""
    made = np.array(part, order="C")
    forget(part)
    return made


def bands(picture: Array) -> Iterator[Array]:
    """The picture in bands from the top, each in memory. uint8 [rows, width, 3]."""
    rows = max(1, BAND_BYTES // max(1, picture.shape[1] * 3))
    for top in range(0, picture.shape[0], rows):
        yield copied(picture[top : top + rows])


def rows_of(picture: Array, numbers: Array) -> Array:
    """These rows, in memory. uint8 [numbers, width, 3]."""
    if not is_on_disk(picture):
        return picture[numbers]
    made = np.empty((len(numbers), *picture.shape[1:]), picture.dtype)
    # The kernel maps some megabytes around each row that is looked at.
    for place, number in enumerate(numbers):
        made[place] = picture[number]
        if place % _ROWS_AT_A_TIME == 0:
            forget(picture)
    forget(picture)
    return made


def forget(picture: Array) -> None:
    """Gives back the memory of what was read of a picture on disk. It can be read again."""
    file = _file(picture)
    if file is not None and hasattr(mmap, "MADV_DONTNEED"):
        file.madvise(mmap.MADV_DONTNEED)


def _file(picture: Array) -> mmap.mmap | None:
    base: object = picture
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    return base if isinstance(base, mmap.mmap) else None
