"""DETR and its heirs as transformers exports them: RT-DETR, D-FINE, Deformable DETR, DETR, YOLOS, Table Transformer.

Two outputs: `logits` [pictures, queries, classes] and `pred_boxes` [pictures, queries, 4], centre, width and height as
shares of the picture. What the family's image processor of transformers does before, and its
`post_process_object_detection` after: one query may be of several classes (sigmoid), or is of its best one (softmax).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array, Tensor
from worker.detection.boxes import corners
from worker.detection.facts import MASK, Facts
from worker.detection.families.detr_pixels import Pixels, pixels_of
from worker.detection.family import Defaults, Family, Prepared, Reading
from worker.detection.fitting import Frame, whole_frame
from worker.detection.found import Found, Wanted, found
from worker.detection.settings import FamilyName

Activation = Literal["sigmoid", "softmax"]
_LOGITS, _BOXES = "logits", "pred_boxes"
_ACTIVATIONS: Mapping[str, Activation] = {
    "rt_detr": "sigmoid",
    "rt_detr_v2": "sigmoid",
    "d_fine": "sigmoid",
    "deformable_detr": "sigmoid",
    "conditional_detr": "sigmoid",
    "detr": "softmax",
    "yolos": "softmax",
    "table-transformer": "softmax",
}
#: Those whose post-processing keeps the best hundred.
_OF_A_HUNDRED = ("deformable_detr", "conditional_detr")


@dataclass(frozen=True)
class Detr:
    name: ClassVar[FamilyName] = "detr"
    image: Tensor
    mask: Tensor | None
    pixels: Pixels
    activation: Activation
    #: Pairs of query and class that are looked at.
    most: int
    classes: int

    @property
    def defaults(self) -> Defaults:
        return Defaults(confidence=0.5, max_detections=self.most)

    @property
    def told(self) -> str:
        return f"{_LOGITS}, {_BOXES}: {self.activation} of {self.classes} classes; {self.pixels.told}"

    @property
    def largest(self) -> tuple[int, int]:
        return self.pixels.largest

    def prepared(self, picture: Array) -> Prepared:
        made = self.pixels.of(picture).astype(self.image.dtype, copy=False)
        height, width = made.shape[2:]
        feeds = {self.image.name: made}
        if self.mask is not None:
            feeds[self.mask.name] = self._mask(height, width)
        return Prepared(feeds, whole_frame(picture, (width, height)))

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        logits = np.asarray(outputs[_LOGITS][0], np.float32)
        shares = corners(np.asarray(outputs[_BOXES][0], np.float32)).reshape(-1, 2, 2)
        boxes = (shares * np.array(frame.picture, np.float32)).reshape(-1, 4)
        if self.activation == "softmax":
            scores = _softmax(logits)[:, :-1]
            best = scores.argmax(axis=1)
            every = found(boxes, scores[np.arange(len(scores)), best], best)
        else:
            flat = _sigmoid(logits).reshape(-1)
            top = np.argsort(-flat, kind="stable")[: self.most]
            every = found(boxes[top // self.classes], flat[top], top % self.classes)
        return every.meeting(wanted).best(wanted.max_detections)

    def _mask(self, height: int, width: int) -> Array:
        """Nothing of the input is padding. Some exports take a mask of a size of their own."""
        mask = self.mask
        assert mask is not None  # noqa: S101
        sides = [side if side > 0 else whole for side, whole in zip(mask.shape[1:], (height, width), strict=True)]
        return np.ones((1, *sides), mask.dtype)


def _sigmoid(values: Array) -> Array:
    with np.errstate(over="ignore"):
        made: Array = np.float32(1) / (np.float32(1) + np.exp(-values))
    return made


def _softmax(values: Array) -> Array:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    made: Array = powers / powers.sum(axis=-1, keepdims=True)
    return made


def _read(facts: Facts) -> Family | None:
    if not {_LOGITS, _BOXES} <= facts.outputs.keys():
        return None
    if any(len(facts.shapes[name]) != 3 for name in (_LOGITS, _BOXES)):
        return None
    _, queries, columns = facts.shapes[_LOGITS]
    activation = _activation(facts, columns)
    most = 100 if facts.config.get("model_type") in _OF_A_HUNDRED else queries
    classes = columns if activation == "sigmoid" else columns - 1
    return Detr(facts.image, facts.inputs.get(MASK), pixels_of(facts, activation), activation, most, classes)


def _activation(facts: Facts, columns: int) -> Activation:
    """As model.yaml says, else the publisher's config.json, the number of its classes, or RT-DETR's operators.

    Raises ModelError `detection-ambiguous`.
    """
    if facts.settings.activation is not None:
        return facts.settings.activation
    if (known := _ACTIVATIONS.get(str(facts.config.get("model_type")))) is not None:
        return known
    if len(facts.names) == columns:
        return "sigmoid"
    if len(facts.names) == columns - 1:
        return "softmax"
    if "GridSample" in facts.operators and MASK not in facts.inputs:
        return "sigmoid"
    raise ModelError(
        f"{_LOGITS} has {columns} columns, which may be {columns} classes under a sigmoid (RT-DETR, D-FINE) or "
        f"{columns - 1} classes and one for nothing under a softmax (DETR, YOLOS): lay the publisher's config.json "
        "beside the graph, or say which with pipeline.activation",
        code="detection-ambiguous",
    )


READING = Reading(
    "detr",
    "logits and boxes of queries, as transformers' DETR-likes give them",
    "the outputs logits [pictures, queries, classes] and pred_boxes [pictures, queries, 4]",
    _read,
)
