"""RT-DETR as ultralytics exports it.

One output [pictures, 300, 6]: centre x, centre y, width and height as shares of the picture, score, class. Exports
before 8.4 have [pictures, 300, 4 + classes], with a probability for each class. Pictures are stretched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from worker.contract import Array, Tensor
from worker.detection.boxes import corners
from worker.detection.facts import Facts
from worker.detection.families.six_columns import rows_of_six, units
from worker.detection.families.ultralytics import refuse_other_tasks
from worker.detection.family import Defaults, Family, Prepared, Reading
from worker.detection.fitting import Frame, planes, stretched
from worker.detection.found import Found, Wanted, found
from worker.detection.settings import FamilyName

_QUERIES = 300


@dataclass(frozen=True)
class UltralyticsRtDetr:
    name: ClassVar[FamilyName] = "ultralytics-rtdetr"
    defaults: ClassVar[Defaults] = Defaults(confidence=0.25, max_detections=300)
    image: Tensor
    size: tuple[int, int]
    output: str
    #: None: rows hold one score and its class.
    classes: int | None

    @property
    def told(self) -> str:
        form = "a score and its class" if self.classes is None else f"{self.classes} class scores"
        return f"{self.output}: boxes as shares of the picture and {form}; stretched to {self.size[0]} × {self.size[1]}"

    @property
    def largest(self) -> tuple[int, int]:
        return self.size

    def prepared(self, picture: Array) -> Prepared:
        fitted = stretched(picture, self.size)
        return Prepared({self.image.name: planes(fitted.pixels, self.image.dtype, 255.0)}, fitted.frame)

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        rows = np.asarray(outputs[self.output][0], np.float32)
        boxes = (corners(rows[:, :4]).reshape(-1, 2, 2) * np.array(frame.picture, np.float32)).reshape(-1, 4)
        if self.classes is None:
            all_found = found(boxes, rows[:, 4], rows[:, 5])
        else:
            best = rows[:, 4:].argmax(axis=1)
            all_found = found(boxes, rows[np.arange(len(rows)), 4 + best], best)
        return all_found.meeting(wanted).best(wanted.max_detections)


def _read(facts: Facts) -> Family | None:
    refuse_other_tasks(facts)
    six = rows_of_six(facts)
    if six is not None and not (len(facts.names) == 2 and _has_scores_alone(facts, six)):
        if facts.settings.family is None and units(facts, six) == "pixels":
            return None
        return UltralyticsRtDetr(facts.image, facts.size, six, None)
    name = facts.only_output
    if name is None or len(shape := facts.shapes[name]) != 3 or shape[1] != _QUERIES or shape[2] < 5:
        return None
    if facts.settings.family is None and facts.ultralytics is None and "GridSample" not in facts.operators:
        return None
    return UltralyticsRtDetr(facts.image, facts.size, name, shape[2] - 4)


def _has_scores_alone(facts: Facts, name: str) -> bool:
    """Of six columns, where there are two classes: whether the last two are their scores."""
    last = facts.probe[name][..., 5]
    return bool((last != np.rint(last)).any())


READING = Reading(
    "ultralytics-rtdetr",
    "centre, width and height as shares of the picture, score and class, as ultralytics' RT-DETR gives them",
    "one output [pictures, 300, 6] or [pictures, 300, 4 + classes]",
    _read,
)
