"""What a request for detection may ask for."""

from typing import Annotated

from pydantic import Field

from worker.detection.settings import Share
from worker.pictures.items import PictureParams

ClassName = Annotated[str, Field(min_length=1, max_length=200)]


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
