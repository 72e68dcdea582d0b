"""What `model.yaml` may say of a detection model under `pipeline`; the graph's own file says the rest."""

from typing import Annotated, Literal

from pydantic import Field

from fleet.model_source import InnerPath
from worker.contract import TaskSettings

FamilyName = Literal[
    "ultralytics",
    "ultralytics-end-to-end",
    "ultralytics-rtdetr",
    "yolov5",
    "yolov7-end-to-end",
    "yolox",
    "yolo-nas",
    "detr",
    "detr-in-graph",
    "centerface",
]
Side = Annotated[int, Field(ge=16, le=8192)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class DetectionSettings(TaskSettings):
    """Nothing of it is needed for a file that says what it is."""

    #: How outputs are read; said where the file can be read in two ways.
    family: FamilyName | None = None
    #: [width, height] in pixels of what a graph with free sides is fed.
    input_size: tuple[Side, Side] | None = None
    #: Of a graph with free sides: feed the smallest rectangle that a picture fits in, as its library does, or always
    #: `input_size` whole, so that pictures of different shapes can share a run.
    rectangle: bool = True
    #: Of YOLOX: whether the graph turns its numbers into pixels by itself.
    decoded: bool | None = None
    #: Of YOLOX before 0.1.1: fed RGB, normalised as ImageNet is.
    legacy: bool = False
    #: Of YOLO-NAS trained on a dataset of one's own rather than COCO: super-gradients feeds it otherwise then.
    own_data: bool = False
    #: Of DETR-likes with raw outputs: `sigmoid` (RT-DETR, D-FINE), or `softmax` with a last class for nothing (DETR).
    activation: Literal["sigmoid", "softmax"] | None = None
    #: Of CenterFace: the long side in pixels to which larger pictures are shrunk.
    longest_side: Annotated[int, Field(ge=32, le=8192)] = 1920
    #: In the place of the family's own, for requests that do not say.
    confidence: Share | None = None
    iou: Share | None = None
    max_detections: Annotated[int, Field(ge=1, le=30_000)] | None = None
    #: The publisher's file of class names (`id2label`), and of how pictures become input.
    config: InnerPath = "config.json"
    preprocessor: InnerPath = "preprocessor_config.json"
