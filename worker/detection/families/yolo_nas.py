"""YOLO-NAS as super-gradients exports it, in three forms.

raw         boxes [pictures, places, 4] as corners in pixels, and scores [pictures, places, classes]
batch       num_predictions, pred_boxes, pred_scores, pred_classes: suppressed in the graph
flat        one output [boxes, 7]: number of the picture, x1, y1, x2, y2, score, class: suppressed in the graph

A graph that takes whole numbers takes RGB and does the rest by itself, one that does not takes what is over 255. With
the published weights the picture lies in the middle of grey, four pixels smaller than there is room for; with those of
a dataset of one's own it lies at the top left, and is BGR where the graph does not turn it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from worker.contract import Array, Tensor
from worker.detection.boxes import kept, moved_apart
from worker.detection.facts import Facts
from worker.detection.families.yolov7_end_to_end import OUTPUT, flat_output
from worker.detection.family import Defaults, Family, Prepared, Reading
from worker.detection.fitting import Frame, cornered, letterboxed, planes
from worker.detection.found import Found, Wanted, above, found
from worker.detection.settings import FamilyName

Form = Literal["raw", "batch", "flat"]
_COUNTED = ("num_predictions", "pred_boxes", "pred_scores", "pred_classes")
_MOST_CANDIDATES = 1024
_MARGIN = 4


@dataclass(frozen=True)
class YoloNas:
    name: ClassVar[FamilyName] = "yolo-nas"
    image: Tensor
    size: tuple[int, int]
    form: Form
    #: The outputs, in the order of the form's description.
    outputs: tuple[str, ...]
    classes: int | None
    #: Trained on a dataset of one's own.
    own_data: bool = False

    @property
    def defaults(self) -> Defaults:
        confidence, iou = (0.5, 0.65) if self.own_data else (0.25, 0.7)
        return Defaults(confidence, iou=iou if self.form == "raw" else None, max_detections=300)

    @property
    def told(self) -> str:
        over = "BGR over 255" if self.own_data else "RGB over 255"
        colours = "RGB as whole numbers" if self.image.dtype == np.uint8 else over
        suppressed = "to suppress" if self.form == "raw" else "none to suppress"
        width, height = self.size
        where = f"at the top left of {width} × {height}"
        if not self.own_data:
            where = f"letterboxed into {width} × {height} with a margin of {_MARGIN}"
        return f"{', '.join(self.outputs)}: the {self.form} form, boxes in pixels, {suppressed}; {where}, {colours}"

    @property
    def largest(self) -> tuple[int, int]:
        return self.size

    def prepared(self, picture: Array) -> Prepared:
        margin = 0 if self.own_data else _MARGIN
        whole = self.image.dtype == np.uint8
        fitted = (
            cornered(picture, self.size, nearest=True)
            if self.own_data
            else letterboxed(picture, self.size, margin=margin)
        )
        frame = fitted.frame
        (width, height), (most_width, most_height) = frame.picture, self.size
        # One gain for the way back, though sides are rounded on the way there.
        gain = min((most_height - margin) / height, (most_width - margin) / width)
        feeds = {self.image.name: planes(fitted.pixels, self.image.dtype, 255.0, bgr=self.own_data and not whole)}
        return Prepared(feeds, Frame(frame.picture, frame.size, (gain, gain), frame.offset))

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        values = [outputs[name] for name in self.outputs]
        if self.form == "raw":
            return frame.back(_suppressed(values[0][0], values[1][0], wanted))
        if self.form == "flat":
            rows = values[0]
            all_found = found(rows[:, 1:5], rows[:, 5], rows[:, 6])
        else:
            count = int(values[0].reshape(-1)[0])
            boxes, scores, classes = (value[0][:count] for value in values[1:])
            all_found = found(boxes, scores, classes)
        return frame.back(all_found.meeting(wanted).best(wanted.max_detections))


def _suppressed(boxes: Array, scores: Array, wanted: Wanted) -> Found:
    """A place may be of several classes."""
    places, classes = np.nonzero(above(np.asarray(scores, np.float32), wanted))
    candidates = found(boxes[places], scores[places, classes], classes).meeting(wanted).best(_MOST_CANDIDATES)
    apart = candidates.boxes
    if len(candidates) and not wanted.agnostic:
        # As far as torchvision moves them, and no further: rounding shows at the edge of the threshold.
        apart = moved_apart(candidates.boxes, candidates.classes, candidates.boxes.max() + np.float32(1))
    return candidates.only(kept(apart, candidates.scores, wanted.iou, most=wanted.max_detections))


def _read(facts: Facts) -> Family | None:
    if facts.ultralytics is not None:
        return None
    own = facts.settings.own_data
    if (counted := _counted(facts)) is not None:
        return YoloNas(facts.image, facts.size, "batch", counted, None, own)
    if (flat := flat_output(facts)) is not None and (facts.settings.family is not None or flat != OUTPUT):
        return YoloNas(facts.image, facts.size, "flat", (flat,), None, own)
    if (raw := _raw(facts)) is not None:
        return YoloNas(facts.image, facts.size, "raw", raw, facts.shapes[raw[1]][2], own)
    return None


def _counted(facts: Facts) -> tuple[str, ...] | None:
    """Their names have the prefix of the part of the graph that suppresses."""
    chosen = [next((name for name in facts.outputs if name.endswith(end)), None) for end in _COUNTED]
    names = tuple(name for name in chosen if name is not None)
    return names if len(names) == len(_COUNTED) else None


def _raw(facts: Facts) -> tuple[str, str] | None:
    if len(facts.outputs) != 2 or "logits" in facts.outputs:
        return None
    (first, one), (second, two) = facts.shapes.items()
    if len(one) != 3 or len(two) != 3 or one[1] != two[1] or one[1] not in facts.anchors().values():
        return None
    # With four classes both are of one shape: boxes come first, as they are exported.
    return (first, second) if one[2] == 4 else (second, first) if two[2] == 4 else None


READING = Reading(
    "yolo-nas",
    "boxes in pixels as super-gradients' YOLO-NAS gives them: in rows of seven picture, box, score, class",
    "boxes [pictures, places, 4] with scores [pictures, places, classes], or num_predictions with pred_boxes, "
    "pred_scores and pred_classes, or one output [boxes, 7]",
    _read,
)
