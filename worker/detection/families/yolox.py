"""YOLOX.

One output [pictures, places, 5 + classes]: centre, width and height, the probability that there is something, and that
it is each of the classes. Unless exported with `--decode_in_inference` the first four are in steps of the place's own
stride. Fed BGR from 0 to 255 at the top left of grey. What its ONNX demo does: classes drop each other's boxes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array, Tensor
from worker.detection.boxes import corners, kept, moved_apart
from worker.detection.facts import Facts
from worker.detection.family import Defaults, Family, Prepared, Reading
from worker.detection.fitting import Frame, cornered, planes
from worker.detection.found import Found, Wanted, above, found
from worker.detection.settings import FamilyName

#: ImageNet's, for weights before 0.1.1.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


@dataclass(frozen=True)
class YoloX:
    name: ClassVar[FamilyName] = "yolox"
    defaults: ClassVar[Defaults] = Defaults(confidence=0.3, iou=0.45, max_detections=1000, agnostic=True)
    image: Tensor
    size: tuple[int, int]
    output: str
    classes: int
    #: None: the graph decodes by itself. Else of each place its column, row and stride, float32 [places, 1] each.
    grid: tuple[Array, Array, Array] | None
    legacy: bool

    @property
    def told(self) -> str:
        units = "pixels" if self.grid is None else "steps"
        return (
            f"{self.output}: boxes in {units}, objectness and {self.classes} class scores of each place; at the top "
            f"left of {self.size[0]} × {self.size[1]}, {'RGB as ImageNet' if self.legacy else 'BGR from 0 to 255'}"
        )

    @property
    def largest(self) -> tuple[int, int]:
        return self.size

    def prepared(self, picture: Array) -> Prepared:
        fitted = cornered(picture, self.size)
        if self.legacy:
            made = planes(fitted.pixels, np.dtype(np.float32), 255.0)
            made = ((made - _MEAN) / _DEVIATION).astype(self.image.dtype, copy=False)
        else:
            made = planes(fitted.pixels, self.image.dtype, bgr=True)
        return Prepared({self.image.name: made}, fitted.frame)

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        rows = np.asarray(outputs[self.output][0], np.float32)
        scores = rows[:, 5:] * rows[:, 4:5]
        best = scores.argmax(axis=1)
        scores = scores[np.arange(len(rows)), best]
        chosen = above(scores, wanted)
        candidates = found(corners(self._pixels(rows[:, :4], chosen)), scores[chosen], best[chosen])
        # Its demo counts pixels from edge to edge, those of the picture: so the way back comes first.
        candidates = frame.back(candidates.meeting(wanted))
        boxes = candidates.boxes if wanted.agnostic else moved_apart(candidates.boxes, candidates.classes)
        chosen = kept(boxes, candidates.scores, wanted.iou, most=wanted.max_detections, pixel=1.0)
        return candidates.only(chosen)

    def _pixels(self, boxes: Array, chosen: Array) -> Array:
        boxes = boxes[chosen]
        if self.grid is None:
            return boxes
        column, row, stride = (one[chosen] for one in self.grid)
        with np.errstate(over="ignore"):
            sides = np.exp(boxes[:, 2:4])
        return np.concatenate([boxes[:, :1] + column, boxes[:, 1:2] + row, sides], axis=1) * stride


def grid_of(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Columns, rows and strides of all places: level after level, each row by row, float32 [places, 1]."""
    levels = []
    for stride in strides:
        rows, columns = np.mgrid[0 : size[1] // stride, 0 : size[0] // stride]
        levels.append((columns.ravel(), rows.ravel(), np.full(columns.size, stride)))
    columns, rows, steps = (np.concatenate(part).astype(np.float32)[:, None] for part in zip(*levels, strict=True))
    return columns, rows, steps


def _read(facts: Facts) -> Family | None:
    if facts.ultralytics is not None:
        return None
    name = facts.only_output
    if name is None or len(shape := facts.shapes[name]) != 3 or shape[2] < 6 or shape[1] < shape[2]:
        return None
    strides = next((strides for strides, places in facts.anchors().items() if places == shape[1]), None)
    if strides is None:
        return None
    grid = None if _decoded(facts, name) else grid_of(facts.size, strides)
    return YoloX(facts.image, facts.size, name, shape[2] - 5, grid, facts.settings.legacy)


def _decoded(facts: Facts, name: str) -> bool:
    """Raises ModelError `detection-ambiguous` where a run on nothing does not show it."""
    if facts.settings.decoded is not None:
        return facts.settings.decoded
    centres, sides = facts.probe[name][..., :2], facts.probe[name][..., 2:4]
    # In steps they lie within the place's own neighbourhood, and sides are logarithms; in pixels they span the input.
    spread = float(centres.max() - centres.min())
    if spread > max(facts.size) / 2 and sides.min() >= 0:
        return True
    if spread < 32 or sides.min() < 0:
        return False
    raise ModelError(
        f"the first four numbers of {name} may be pixels (exported with --decode_in_inference) or steps of a stride "
        f"(without): say which with pipeline.decoded",
        code="detection-ambiguous",
    )


READING = Reading(
    "yolox",
    "a box, objectness and class scores of each place, as YOLOX gives them",
    "one output [pictures, places, 5 + classes]",
    _read,
)
