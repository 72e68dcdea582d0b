"""What a request for detection may ask for."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from worker.contract import TaskParams
from worker.detection.merging import Merge, Metric
from worker.detection.settings import Share, Side
from worker.pictures.items import PictureParams

ClassName = Annotated[str, Field(min_length=1, max_length=200)]


class Tiles(TaskParams):
    """Looks at parts of a picture, so that small things are seen large: as the package sahi does it."""

    size: Side | tuple[Side, Side] | None = Field(
        default=None, description="of a tile in pixels of the picture, or [width, height]; default: the model's input"
    )
    overlap: float = Field(
        default=0.2, ge=0, lt=1, allow_inf_nan=False, description="of neighbours, as a share of their size"
    )
    merge: Merge | None = Field(
        default=None,
        description="what becomes of boxes that match: greedy_nmm, or nms where the confidence is below 0.1",
    )
    metric: Metric | None = Field(
        default=None, description="what two boxes share over the smaller (ios), or, with such an nms, over both (iou)"
    )
    threshold: float = Field(default=0.5, gt=0, le=1, allow_inf_nan=False, description="boxes match from here on")
    whole: bool = Field(default=True, description="also look at the whole picture, for what is larger than a tile")
    class_agnostic: bool | None = Field(
        default=None, description="whether boxes of different classes match; default: only if the request asks for that"
    )


class Augment(TaskParams):
    """Looks at a picture in several ways, and fuses the boxes: weighted box fusion."""

    flip: bool = Field(default=True, description="also mirrored from left to right")
    scales: list[Annotated[float, Field(ge=0.25, le=1, allow_inf_nan=False)]] = Field(
        default=[1.0], min_length=1, max_length=4, description="the picture so much smaller, in grey"
    )
    iou: Share = Field(default=0.55, description="boxes that overlap by more are one")
    skip: Share | None = Field(
        default=None, description="boxes of one look with a lower score are left out; default: half the confidence"
    )

    @model_validator(mode="after")
    def _several(self) -> "Augment":
        if len(set(self.scales)) < len(self.scales):
            raise ValueError("scales names one twice")
        if not self.flip and len(self.scales) == 1:
            raise ValueError("flip and scales leave one look: ask for a second scale, for flip, or leave augment away")
        return self


class DetectionParams(PictureParams):
    """Whatever is not said is the model's: see `pipeline` of its model.yaml, else what its library does."""

    confidence: Share | None = Field(default=None, description="only boxes with a score above it")
    iou: Share | None = Field(
        default=None, description="of two boxes of one class that overlap by more than it the lesser one is dropped"
    )
    max_detections: int | None = Field(default=None, ge=1, le=30_000, description="at most so many boxes a picture")
    classes: list[int | ClassName] | None = Field(
        default=None, min_length=1, max_length=10_000, description="only these, by number or by the model's name"
    )
    class_agnostic: bool | None = Field(default=None, description="whether boxes of different classes drop each other")
    class_mapping: dict[ClassName, ClassName] = Field(
        default_factory=dict, max_length=10_000, description="other names in the answer: number or name -> name"
    )
    preview: bool = Field(default=False, description="also a PNG of the picture with its boxes, as an artifact")
    tiles: Tiles | None = Field(default=None, description="look at parts of the picture, one by one")
    augment: Augment | Literal["flip"] | None = Field(
        default=None, description="look at it several times, and fuse what is found; `flip`: that alone"
    )
