"""Ultralytics' heads that need no suppression: v10 and v26 end to end, and any export with `nms=True`.

One output [pictures, rows, 6]: x1, y1, x2, y2 in pixels of the input, score, class; best first, empty rows are zeros.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from worker.contract import Array
from worker.detection.facts import Facts
from worker.detection.families.letterbox import Letterbox, Letterboxed
from worker.detection.families.six_columns import rows_of_six, units
from worker.detection.families.ultralytics import refuse_other_tasks
from worker.detection.family import Defaults, Family, Reading
from worker.detection.fitting import Frame
from worker.detection.found import Found, Wanted, found
from worker.detection.settings import FamilyName


@dataclass(frozen=True)
class UltralyticsEndToEnd(Letterboxed):
    name: ClassVar[FamilyName] = "ultralytics-end-to-end"
    defaults: ClassVar[Defaults] = Defaults(confidence=0.25, max_detections=300)
    classes: ClassVar[None] = None
    #: How many rows the graph answers with.
    rows: int

    @property
    def told(self) -> str:
        return f"{self.output}: at most {self.rows} boxes in pixels, none to suppress; {self.letterbox.told}"

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        rows = outputs[self.output][0]
        met = found(rows[:, :4], rows[:, 4], rows[:, 5]).meeting(wanted)
        return frame.back(met.best(wanted.max_detections))


def _read(facts: Facts) -> Family | None:
    refuse_other_tasks(facts)
    name = rows_of_six(facts)
    if name is None or (facts.settings.family is None and units(facts, name) == "shares"):
        return None
    return UltralyticsEndToEnd(Letterbox.of(facts), name, facts.shapes[name][1])


READING = Reading(
    "ultralytics-end-to-end",
    "x1, y1, x2, y2 in pixels, score and class, as YOLOv10 and v26 give them",
    "one output [pictures, rows, 6] with at most 1,000 rows",
    _read,
)
