"""Ultralytics' anchor-free heads: YOLOv5u, v8, v9, v11, v12, and v10 and v26 as they are exported by default.

One output [pictures, 4 + classes, places]: centre, width and height in pixels of the input, then a probability for each
class. What `predict` of ultralytics 8.4 does with it, in the same order and in float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array
from worker.detection.boxes import corners, kept, moved_apart
from worker.detection.facts import Facts
from worker.detection.families.letterbox import Letterbox, Letterboxed
from worker.detection.family import Defaults, Family, Reading
from worker.detection.fitting import Frame
from worker.detection.found import Found, Wanted, above, found
from worker.detection.settings import FamilyName

#: The best candidates, which are looked at for overlaps.
_MOST_CANDIDATES = 30_000
#: Tasks whose boxes are those of detection, with more behind them.
_WITH_BOXES = ("detect", "segment", "pose")


@dataclass(frozen=True)
class Ultralytics(Letterboxed):
    name: ClassVar[FamilyName] = "ultralytics"
    defaults: ClassVar[Defaults] = Defaults(confidence=0.25, iou=0.7, max_detections=300)
    classes: int

    @property
    def told(self) -> str:
        return f"{self.output}: boxes and {self.classes} class scores of each place; {self.letterbox.told}"

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        rows = np.asarray(outputs[self.output][0], np.float32)
        scores = rows[4 : 4 + self.classes]
        # Nearly all places are below; only of the others the class is looked for.
        places = np.flatnonzero(above(scores.max(axis=0), wanted))
        scores = scores[:, places]
        best = scores.argmax(axis=0)
        candidates = found(corners(rows[:4, places].T), scores[best, np.arange(len(places))], best)
        return frame.back(suppressed(candidates.meeting(wanted), wanted))


def suppressed(candidates: Found, wanted: Wanted) -> Found:
    """Ultralytics' suppression of boxes in pixels of the input."""
    if len(candidates) > _MOST_CANDIDATES:
        candidates = candidates.best(_MOST_CANDIDATES)
    boxes = candidates.boxes if wanted.agnostic else moved_apart(candidates.boxes, candidates.classes)
    return candidates.only(kept(boxes, candidates.scores, wanted.iou, most=wanted.max_detections))


def refuse_other_tasks(facts: Facts) -> None:
    """Raises ModelError `task-unfit` for exports that were not made to find boxes."""
    noted = facts.ultralytics
    if noted is not None and noted.task not in _WITH_BOXES:
        hint = "use the task image-classification" if noted.task == "classify" else "its boxes are not upright ones"
        raise ModelError(
            f"the file says that it is made for {noted.task!r}, not for detection: {hint}", code="task-unfit"
        )


def _read(facts: Facts) -> Family | None:
    refuse_other_tasks(facts)
    name = facts.only_output
    if name is None or len(shape := facts.shapes[name]) != 3:
        return None
    _, rows, places = shape
    noted = facts.ultralytics
    if rows < 5 or rows >= places or (noted is None and places not in facts.anchors().values()):
        return None
    classes = rows - 4 - _masks(facts)
    if noted is not None and noted.task != "detect" and noted.names:
        classes = len(noted.names)
    return Ultralytics(Letterbox.of(facts), name, classes) if classes > 0 else None


def _masks(facts: Facts) -> int:
    """Coefficients of masks, as many as a second output has prototypes."""
    return next((shape[1] for shape in facts.shapes.values() if len(shape) == 4), 0)


READING = Reading(
    "ultralytics",
    "boxes and class scores of each place, as ultralytics' YOLOs give them",
    "one output [pictures, 4 + classes, places]",
    _read,
)
