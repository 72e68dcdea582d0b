"""What `model.yaml` may say of a classifier under `pipeline`, and what a request may ask of it."""

from typing import Annotated, Literal

from pydantic import Field

from fleet.model_source import InnerPath
from worker.pictures.items import PictureParams
from worker.pictures.publisher import PictureSettings
from worker.pictures.views import Views

ClassName = Annotated[str, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Most = Annotated[int, Field(ge=1, le=100_000)]


class ClassificationSettings(PictureSettings):
    """Nothing of it is needed beside the files of a publisher, or for an export of ultralytics."""

    #: Class names: a JSON list, an object {"0": "name"}, or one name a line.
    labels: InnerPath = "labels.json"
    #: The output that has the classes; needed where there are several.
    output: str | None = None
    #: What makes scores of the output's numbers; `auto`: none where the graph ends in it, else softmax, or sigmoid
    #: where each class is a question of its own.
    activation: Literal["auto", "softmax", "sigmoid", "none"] = "auto"
    #: Whether several classes may be true of a picture; null: as the publisher's config says, else not.
    multi_label: bool | None = None
    top_k: Most = 5


class ClassificationParams(PictureParams):
    top_k: Most | None = Field(default=None, description="so many classes, the best first; null: the model's, mostly 5")
    confidence: Share | None = Field(default=None, description="only classes with at least this score")
    class_mapping: dict[ClassName, ClassName] = Field(
        default_factory=dict, max_length=10_000, description="other names in the answer: number or name -> name"
    )
    augment: Views = Field(
        default="none",
        description="`flip`: the mean of the scores of the picture and of its mirror image; `five-crop`: of its "
        "corners and its middle, for models whose recipe crops",
    )
