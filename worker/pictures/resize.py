"""Two ways to make a picture another size, each exactly as the library that a model was trained with does it.

`linear` is OpenCV's INTER_LINEAR, which looks at two pixels per axis however far it shrinks; `pillow` is Pillow's,
which averages over all that a new pixel covers. They are not alternatives: a detector fed by the other one finds other
boxes. Which one a model wants is said by its family; see docs/decisions/0015-opencv-resizes-pictures.md.
"""

from functools import cache, lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from worker.contract import Array
from worker.pictures.filters import PILLOWS, Filter
from worker.pictures.on_disk import bands, is_on_disk, rows_of

#: Weights are whole numbers of so many bits.
_BITS = 11
_ONE = 1 << _BITS


def linear(array: Array, size: tuple[int, int]) -> Array:
    """As cv2.resize(array, size, interpolation=cv2.INTER_LINEAR): uint8 [h, w, 3] -> uint8 [height, width, 3].

    size: (width, height). OpenCV does it where it is installed, some thirty times faster; of a picture on disk only
    the rows that it looks at are read, which OpenCV would not do.
    """
    if (array.shape[1], array.shape[0]) == size:
        return array
    cv2 = None if is_on_disk(array) else opencv()
    if cv2 is None:
        return linear_by_numpy(array, size)
    resized: Array = cv2.resize(np.ascontiguousarray(array), size, interpolation=cv2.INTER_LINEAR)
    return resized


@cache
def opencv() -> Any:
    """The optional extra, on one thread as everything that prepares a picture is; None where it is not installed."""
    try:
        cv2 = import_module("cv2")
    except ImportError:
        return None
    cv2.setNumThreads(1)
    return cv2


def linear_into(array: Array, into: Array) -> None:
    """`linear`, in place: fills `into`, uint8 [height, width, 3], which may be a part of a larger picture."""
    height, width = into.shape[:2]
    cv2 = None if is_on_disk(array) else opencv()
    if cv2 is None or array.shape == into.shape:
        into[...] = linear(array, (width, height))
    else:
        cv2.resize(np.ascontiguousarray(array), (width, height), dst=into, interpolation=cv2.INTER_LINEAR)


def linear_by_numpy(array: Array, size: tuple[int, int]) -> Array:
    """As `linear`, without OpenCV: by the same whole numbers, so that the pixels are the same ones.

    Each axis keeps 11 bits of its weights; the rows' sum is cut to 16 bits before the columns' weights are applied.
    """
    if (array.shape[1], array.shape[0]) == size:
        return array
    width, height = size
    x0, x1, wx0, wx1 = _places(array.shape[1], width, whole_at_edges=True)
    y0, y1, wy0, wy1 = _places(array.shape[0], height, whole_at_edges=False)
    # Only rows that are looked at are worth the work: far fewer than there are, when a large picture shrinks.
    used, place = np.unique(np.concatenate([y0, y1]), return_inverse=True)
    rows = rows_of(array, used)
    across = rows[:, x0].astype(np.int32)
    across *= wx0[None, :, None]
    across += rows[:, x1].astype(np.int32) * wx1[None, :, None]
    across >>= 4
    upper, lower = across[place[:height]], across[place[height:]]
    upper *= wy0[:, None, None]
    upper >>= 16
    lower *= wy1[:, None, None]
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    resized: Array = np.clip(upper, 0, 255, out=upper).astype(np.uint8)
    return resized


@lru_cache(maxsize=256)
def _places(source: int, target: int, *, whole_at_edges: bool) -> tuple[Array, Array, Array, Array]:
    """Of each of `target` pixels: the two source pixels that it lies between, and their weights in 2048ths.

    Beyond an edge both are the same pixel. OpenCV gives it the whole weight at once along a row, and two parts of it,
    each of which is rounded, along a column.
    """
    at = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    lower = np.floor(at).astype(np.int64)
    part = at - lower.astype(np.float32)
    if whole_at_edges:
        part[(lower < 0) | (lower >= source - 1)] = 0
    upper = np.clip(lower + 1, 0, source - 1)
    lower = np.clip(lower, 0, source - 1)
    low = np.rint((np.float32(1) - part) * _ONE).astype(np.int32)
    high = np.rint(part * _ONE).astype(np.int32)
    for one in (lower, upper, low, high):
        one.flags.writeable = False
    return lower, upper, low, high


def pillow(
    array: Array, size: tuple[int, int], kind: Filter, box: tuple[float, float, float, float] | None = None
) -> Array:
    """As Pillow's Image.resize: uint8 [h, w, 3] -> uint8 [height, width, 3], averaging over what a pixel covers.

    size: (width, height). box: (left, top, right, bottom) of the part of the source that is to fill it. A picture on
    disk is worked on in bands; pixels may differ by a level or two of 255 then.
    """
    if box is None and (array.shape[1], array.shape[0]) == size:
        return array
    if box is None and is_on_disk(array):
        # Rows first, then columns: where Pillow does it the other way round pixels differ by a level or two.
        narrow, top = Image.new("RGB", (size[0], array.shape[0])), 0
        for band in bands(array):
            narrow.paste(Image.fromarray(band).resize((size[0], len(band)), PILLOWS[kind]), (0, top))
            top += len(band)
        return np.asarray(narrow.resize(size, PILLOWS[kind]))
    return np.asarray(Image.fromarray(array).resize(size, PILLOWS[kind], box))
