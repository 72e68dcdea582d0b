"""Boxes: from one form to another, and which of those that overlap are kept."""

import numpy as np

from worker.contract import Array

#: Boxes of different classes are moved apart by so many pixels a class. The sum is rounded to float32, which blurs
#: boxes of class 79 by 1/16 pixel: ultralytics does it so, and a box on the edge of the threshold shows it.
CLASS_OFFSET = 7680.0
#: Boxes that are compared with each other at once.
_BLOCK = 64


def corners(boxes: Array) -> Array:
    """[n, 4] as centre x, centre y, width, height -> x1, y1, x2, y2, float32."""
    made = np.empty_like(boxes, np.float32)
    half = boxes[:, 2:4] / np.float32(2)
    made[:, :2] = boxes[:, :2] - half
    made[:, 2:] = boxes[:, :2] + half
    return made


def moved_apart(boxes: Array, classes: Array, by: float = CLASS_OFFSET) -> Array:
    """Boxes that overlap those of their own class alone; `by`: pixels a class."""
    moved: Array = boxes + (classes.astype(np.float32) * np.float32(by))[:, None]
    return moved


def kept(boxes: Array, scores: Array, iou: float, *, most: int, touching: bool = False, pixel: float = 0.0) -> Array:
    """Greedy non-maximum suppression: rows of the boxes that stay, int64, best first, at most `most` of them.

    boxes: float32 [n, 4], corners. A box goes that overlaps a better one by more than `iou`; with `touching` also one
    that overlaps it by just so much. pixel: added to each side, for libraries that count pixels from edge to edge.
    Equal scores keep their order. Computed in float32, as torchvision does.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes[order].T
    one = np.float32(pixel)
    # Overlaps are float32; torchvision's limit is not.
    limit = np.float32(iou) if touching else np.float64(iou)
    areas = (x2 - x1 + one) * (y2 - y1 + one)

    def dropped(by: Array, of: Array) -> Array:
        """Whether each of `of` overlaps each of `by` too much: bool [by, of]."""
        by = by[:, None]
        width = np.minimum(x2[by], x2[of]) - np.maximum(x1[by], x1[of]) + one
        height = np.minimum(y2[by], y2[of]) - np.maximum(y1[by], y1[of]) + one
        shared = np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))
        with np.errstate(divide="ignore", invalid="ignore"):
            overlap = shared / (areas[by] + areas[of] - shared)
        return np.asarray(overlap >= limit if touching else overlap > limit)

    chosen: list[int] = []
    rest = np.arange(len(order))
    # Kept boxes come best first, so there is no need to look further than what is wanted.
    while rest.size and len(chosen) < most:
        block, rest = rest[:_BLOCK], rest[_BLOCK:]
        among = dropped(block, block)
        alive = np.ones(len(block), bool)
        for row in range(len(block)):
            if alive[row]:
                alive[row + 1 :] &= ~among[row, row + 1 :]
        chosen += block[alive].tolist()
        rest = rest[~dropped(block[alive], rest).any(axis=0)]
    return order[np.asarray(chosen[:most], np.int64)]
