"""Tidying a label in place: its largest component, and the holes inside it. Voxels touch by their faces (6).

Only the label's bounding box is ever labelled, so memory is 4 bytes per voxel of that box.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from worker.contract import Array

Box = tuple[slice, slice, slice]


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


def keep_largest(mask: Array, label: int) -> int:
    """Sets all but the label's largest component to 0 -> voxels removed. Of equal ones the first stays."""
    box = bounding_box(mask, label)
    if box is None:
        return 0
    part = mask[box]
    components, count = ndimage.label(part == label)
    if count <= 1:
        return 0
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    rest = (components > 0) & (components != sizes.argmax())
    part[rest] = 0
    return int(np.count_nonzero(rest))


def fill_holes(mask: Array, label: int) -> int:
    """Gives the label every background voxel that it encloses -> voxels added. Other labels stay as they are."""
    box = bounding_box(mask, label)
    if box is None:
        return 0
    part = mask[box]
    outside, count = ndimage.label(part != label)
    enclosed = np.ones(count + 1, dtype=bool)
    enclosed[0] = False
    for axis in range(3):
        for face in (0, -1):
            enclosed[outside.take(face, axis=axis)] = False
    if not enclosed.any():
        return 0
    holes = enclosed[outside] & (part == 0)
    part[holes] = label
    return int(np.count_nonzero(holes))
