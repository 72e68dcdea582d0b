"""Ways to show a picture to a model again, and how boxes come back from there: test-time augmentation."""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from worker.contract import Array
from worker.detection.fitting import PADDING
from worker.detection.found import Found


@dataclass(frozen=True)
class View:
    """Mirrored from left to right, or smaller by `scale`, above 0 and at most 1: set in the middle of grey."""

    mirrored: bool = False
    scale: float = 1.0

    def of(self, picture: Array) -> Array:
        """uint8 [height, width, 3] -> what is shown, which is larger where things shall be smaller in it."""
        if self.scale < 1:
            height, width = picture.shape[:2]
            (whole_width, whole_height), (left, top) = self._around((width, height))
            canvas = np.full((whole_height, whole_width, 3), PADDING, np.uint8)
            canvas[top : top + height, left : left + width] = picture
            picture = canvas
        return picture[:, ::-1] if self.mirrored else picture

    def back(self, found: Found, size: tuple[int, int], mirrored_points: tuple[int, ...] | None = None) -> Found:
        """Boxes within a picture of (width, height); those that lay on the grey have no area then.

        mirrored_points: of a model that finds points, which of them each one is in a mirror: the left eye the right.
        """
        whole, offset = self._around(size)
        boxes, points = found.boxes.copy(), found.landmarks
        if self.mirrored:
            boxes[:, [0, 2]] = np.float32(whole[0]) - boxes[:, [2, 0]]
            if points is not None:
                points = points[:, list(mirrored_points)] if mirrored_points else points.copy()
                points[..., 0] = np.float32(whole[0]) - points[..., 0]
        boxes -= np.array([*offset, *offset], np.float32)
        points = None if points is None else points - np.array(offset, np.float32)
        return replace(found, boxes=boxes, landmarks=points).clipped(size)

    def _around(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Size of what is shown of a picture of (width, height), and where it lies in it."""
        width, height = (ceil(side / self.scale) for side in size)
        return (width, height), ((width - size[0]) // 2, (height - size[1]) // 2)
