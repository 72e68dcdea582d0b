"""Tidying a label in place: its largest component, and the holes inside it. Voxels touch by their faces (6).

Only the label's bounding box is ever labelled, so memory is 5 bytes per voxel of that box, the component numbers and
the flags they come from, and a few more per component.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from worker.contract import Array

Box = tuple[slice, slice, slice]
Zeros = Callable[..., Array]
#: voxels counted at a time
_COUNTED = 1 << 18


def bounding_box(mask: Array, label: int) -> Box | None:
    """The smallest half-open box [z, y, x] around a label; None when it is absent."""
    planes = np.fromiter((bool((plane == label).any()) for plane in mask), dtype=bool, count=len(mask))
    if not planes.any():
        return None
    z = _extent(planes)
    shadow = np.zeros(mask.shape[1:], dtype=bool)
    for plane in mask[z]:
        shadow |= plane == label
    return z, _extent(np.any(shadow, axis=1)), _extent(np.any(shadow, axis=0))


def _extent(flags: npt.ArrayLike) -> slice:
    where = np.flatnonzero(flags)
    return slice(int(where[0]), int(where[-1]) + 1)


def keep_largest(mask: Array, label: int, zeros: Zeros = np.zeros) -> int:
    """Sets all but the label's largest component to 0 -> voxels removed. Of equal ones the first stays.

    `zeros` makes the two arrays of the box's size.
    """
    box = bounding_box(mask, label)
    if box is None:
        return 0
    part = mask[box]
    components, count = _numbered(part, label, np.equal, zeros)
    if count <= 1:
        return 0
    largest, removed = _largest(components, count), 0
    for plane, numbers in zip(part, components, strict=True):
        rest = (numbers > 0) & (numbers != largest)
        plane[rest] = 0
        removed += int(np.count_nonzero(rest))
    return removed


def _largest(components: Array, count: int) -> int:
    """The number of the component with most voxels; of equal ones, the first."""
    sizes = np.zeros(count + 1, dtype=np.int64)
    flat = components.reshape(-1)
    # bincount copies its input to int64, so it sees a part at a time; parts shorter than `count` would cost more
    # for their counts than for their voxels.
    step = max(_COUNTED, count)
    for start in range(0, flat.size, step):
        sizes += np.bincount(flat[start : start + step], minlength=count + 1)
    sizes[0] = 0
    return int(sizes.argmax())


def _numbered(part: Array, label: int, compare: np.ufunc, zeros: Zeros) -> tuple[Array, int]:
    """The components of the voxels that compare so with the label, numbered from 1, and how many there are."""
    flags, numbers = zeros(part.shape, np.bool_), zeros(part.shape, np.int32)
    for plane, out in zip(part, flags, strict=True):
        compare(plane, label, out=out)
    return numbers, int(ndimage.label(flags, output=numbers))


def fill_holes(mask: Array, label: int, zeros: Zeros = np.zeros) -> int:
    """Gives the label every background voxel that it encloses -> voxels added. Other labels stay as they are."""
    box = bounding_box(mask, label)
    if box is None:
        return 0
    part = mask[box]
    outside, count = _numbered(part, label, np.not_equal, zeros)
    enclosed = np.ones(count + 1, dtype=bool)
    enclosed[0] = False
    for axis in range(3):
        for face in (0, -1):
            enclosed[outside.take(face, axis=axis)] = False
    if not enclosed.any():
        return 0
    added = 0
    for plane, numbers in zip(part, outside, strict=True):
        holes = enclosed[numbers] & (plane == 0)
        plane[holes] = label
        added += int(np.count_nonzero(holes))
    return added
