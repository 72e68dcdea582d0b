"""YOLOv5 and YOLOv7 as their own repositories export them, anchors applied.

One output [pictures, 3 · places, 5 + classes]: centre, width and height in pixels, the probability that there is
something, and that it is each of the classes. What `detect.py` of the two does with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from worker.contract import Array
from worker.detection.boxes import corners
from worker.detection.facts import Facts
from worker.detection.families.letterbox import Letterbox, Unrounded
from worker.detection.families.ultralytics import suppressed
from worker.detection.family import Defaults, Family, Reading
from worker.detection.fitting import Frame
from worker.detection.found import Found, Wanted, above, found
from worker.detection.settings import FamilyName

_ANCHORS_A_PLACE = 3


@dataclass(frozen=True)
class YoloV5(Unrounded):
    name: ClassVar[FamilyName] = "yolov5"
    defaults: ClassVar[Defaults] = Defaults(confidence=0.25, iou=0.45, max_detections=1000)
    classes: int
    #: Of the only class the graph was never taught a score: that there is something is all there is to know.
    alone: bool = False

    @property
    def told(self) -> str:
        return f"{self.output}: boxes, objectness and {self.classes} class scores of each anchor; {self.letterbox.told}"

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        rows = outputs[self.output][0]
        rows = np.asarray(rows[above(rows[:, 4], wanted)], np.float32)
        scores = rows[:, 4:5] if self.alone else rows[:, 5:] * rows[:, 4:5]
        best = scores.argmax(axis=1)
        candidates = found(corners(rows[:, :4]), scores[np.arange(len(rows)), best], best)
        return frame.back(suppressed(candidates.meeting(wanted), wanted))


def _read(facts: Facts) -> Family | None:
    if facts.ultralytics is not None:
        return None
    name = facts.only_output
    if name is None or len(shape := facts.shapes[name]) != 3 or shape[2] < 6:
        return None
    if shape[1] not in {_ANCHORS_A_PLACE * places for places in facts.anchors().values()}:
        return None
    # YOLOv5 multiplies with the class's score, which it starts at one, and notes names; v7 does neither.
    alone = shape[2] == 6 and not facts.names_noted
    return YoloV5(Letterbox(facts.image, facts.size, None), name, shape[2] - 5, alone)


READING = Reading(
    "yolov5",
    "boxes, objectness and class scores of three anchors a place, as YOLOv5 and v7 give them",
    "one output [pictures, 3 · places, 5 + classes]",
    _read,
)
