"""RT-DETR, RT-DETRv2, D-FINE and DEIM as their own repositories export them, post-processing in the graph.

Inputs `images` and `orig_target_sizes` int64 [pictures, 2] as width, height; outputs `labels`, `boxes` as corners in
pixels of the picture, and `scores`, [pictures, 300] each. The picture is stretched by Pillow, RGB over 255.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from worker.contract import Array, Tensor
from worker.detection.facts import SIZES, Facts
from worker.detection.family import Defaults, Family, Prepared, Reading
from worker.detection.fitting import Frame, planes, whole_frame
from worker.detection.found import Found, Wanted, found
from worker.detection.settings import FamilyName
from worker.pictures.resize import pillow

_OUTPUTS = ("labels", "boxes", "scores")


@dataclass(frozen=True)
class DetrInGraph:
    name: ClassVar[FamilyName] = "detr-in-graph"
    defaults: ClassVar[Defaults] = Defaults(confidence=0.6, max_detections=300)
    classes: ClassVar[None] = None
    image: Tensor
    sizes: Tensor
    size: tuple[int, int]

    @property
    def told(self) -> str:
        return f"{', '.join(_OUTPUTS)}: boxes in pixels of the picture; stretched to {self.size[0]} × {self.size[1]}"

    @property
    def largest(self) -> tuple[int, int]:
        return self.size

    def prepared(self, picture: Array) -> Prepared:
        frame = whole_frame(picture, self.size)
        pixels = planes(pillow(picture, self.size, "bilinear"), self.image.dtype, 255.0)
        sizes = np.array([frame.picture], self.sizes.dtype)
        return Prepared({self.image.name: pixels, self.sizes.name: sizes}, frame)

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        labels, boxes, scores = (outputs[name][0] for name in _OUTPUTS)
        return found(boxes, scores, labels).meeting(wanted).best(wanted.max_detections)


def _read(facts: Facts) -> Family | None:
    sizes = facts.inputs.get(SIZES)
    if sizes is None or set(_OUTPUTS) - facts.outputs.keys():
        return None
    return DetrInGraph(facts.image, sizes, facts.size)


READING = Reading(
    "detr-in-graph",
    "labels, boxes in pixels of the picture and scores, as RT-DETR's and D-FINE's own exports give them",
    "the inputs images and orig_target_sizes, and the outputs labels, boxes and scores",
    _read,
)
