"""YOLOv7 exported with its suppression for ONNX Runtime (`--end2end --grid`).

One output [boxes, 7]: number of the picture, x1, y1, x2, y2 in pixels of the input, class, score: the class is first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from worker.contract import Array
from worker.detection.facts import Facts
from worker.detection.families.letterbox import Letterbox, Letterboxed
from worker.detection.family import Defaults, Family, Prepared, Reading
from worker.detection.fitting import Frame
from worker.detection.found import Found, Wanted, found
from worker.detection.settings import FamilyName

#: As its export calls what the graph gives; YOLO-NAS's calls it `graph2_flat_predictions`.
OUTPUT = "output"


@dataclass(frozen=True)
class YoloV7EndToEnd(Letterboxed):
    name: ClassVar[FamilyName] = "yolov7-end-to-end"
    defaults: ClassVar[Defaults] = Defaults(confidence=0.25, max_detections=1000)
    classes: ClassVar[None] = None

    @property
    def told(self) -> str:
        return f"{self.output}: boxes in pixels, class and score, none to suppress; {self.letterbox.told}"

    def prepared(self, picture: Array) -> Prepared:
        """The way back is by what YOLOv7's `letterbox` tells: one gain, and a border of whole or half pixels.

        Its other exports go back by the border before it was rounded: see `Unrounded`.
        """
        made = self.letterbox.prepared(picture)
        (width, height), size = made.frame.picture, made.frame.size
        gain = min(size[1] / height, size[0] / width)
        offset = (size[0] - round(width * gain)) / 2, (size[1] - round(height * gain)) / 2
        return Prepared(made.feeds, Frame(made.frame.picture, size, (gain, gain), offset))

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        rows = outputs[self.output]
        met = found(rows[:, 1:5], rows[:, 6], rows[:, 5]).meeting(wanted)
        return frame.back(met.best(wanted.max_detections))


def flat_output(facts: Facts) -> str | None:
    """The name of the only output, when it is [boxes, 7]."""
    if len(facts.outputs) != 1:
        return None
    name, tensor = next(iter(facts.outputs.items()))
    return name if len(tensor.shape) == 2 and tensor.shape[1] == 7 else None


def _read(facts: Facts) -> Family | None:
    name = flat_output(facts)
    if name is None or (facts.settings.family is None and name.endswith("flat_predictions")):
        return None
    if facts.image.dtype.kind != "f":
        return None
    return YoloV7EndToEnd(Letterbox(facts.image, facts.size, None), name)


READING = Reading(
    "yolov7-end-to-end",
    "picture, box, class, score, as YOLOv7 gives them",
    "a picture of floating point in, one output [boxes, 7]",
    _read,
)
