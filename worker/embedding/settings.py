"""What `model.yaml` may say of an image embedding under `pipeline`, and what a request may ask of it."""

from typing import Annotated, Literal

from pydantic import Field

from fleet.model_source import InnerPath
from worker.contract import TaskSettings
from worker.pictures.items import PictureParams
from worker.pictures.publisher import PictureSettings
from worker.pictures.views import Views
from worker.text.settings import Truncation

#: From the numbers of an output to one vector a picture; `none` where the output has that shape already.
Pooling = Literal["none", "cls", "mean", "mean-patches"]
Activation = Literal["softmax", "sigmoid"]
Scale = Annotated[float, Field(ge=0.25, le=4, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Label = Annotated[str, Field(min_length=1, max_length=500)]
MOST_TEXTS = 1000


class TextSide(TaskSettings):
    """Of a model that embeds texts, too. What is not said is taken from the publisher's files."""

    tokenizer: InnerPath = "tokenizer.json"
    tokenizer_config: InnerPath = "tokenizer_config.json"
    #: The output with one vector a text.
    output: str | None = None
    #: Of a text, special ones included.
    max_tokens: int | None = Field(default=None, ge=1)
    #: Every text is filled up to so many tokens, as SigLIP was trained; 0: up to the longest beside it.
    pad_to: int | None = Field(default=None, ge=0)
    pad_id: int | None = Field(default=None, ge=0)
    #: Whether what fills up is attended to, where the graph takes a mask.
    attend_padding: bool | None = None
    lower_case: bool | None = None
    #: What happens to a text with too many tokens when its request does not say.
    truncate: Truncation = "refuse"


class ZeroShot(TaskSettings):
    """How the cosine of a picture and a label becomes a score: activation(scale * cosine + bias)."""

    #: As trained, after its exponential: 100 for OpenAI's CLIP. Read from the graph where both towers are one.
    scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    bias: float | None = Field(default=None, allow_inf_nan=False)
    #: `softmax` over the labels as CLIP, `sigmoid` of each as SigLIP; null: by `model_type` in config.json.
    activation: Activation | None = None
    #: What is asked of the text tower for a label; transformers' own default.
    template: str = "This is a photo of {}."


class ImageEmbeddingSettings(PictureSettings):
    """Nothing of it is needed where the graph and the publisher's files leave only one reading."""

    #: The output that vectors are made of.
    output: str | None = None
    pooling: Pooling | None = None
    #: Tokens before those of the patches, which `mean-patches` leaves out: the class token, and registers.
    prefix_tokens: int = Field(default=1, ge=0, le=64)
    #: Whether vectors are made one unit long when a request does not say.
    normalize: bool = True
    #: Sides of pictures that a graph of any size takes are multiples of it; null: `patch_size` of config.json.
    size_multiple: int | None = Field(default=None, ge=1, le=1024)
    text: TextSide = TextSide()
    zero_shot: ZeroShot = ZeroShot()


class ImageEmbeddingParams(PictureParams):
    normalize: bool | None = Field(
        default=None, description="whether vectors are made one unit long; null: the model's"
    )
    scales: list[Scale] = Field(
        default_factory=list,
        max_length=8,
        description="the mean of the vectors at these scales, 1 being the model's own; a graph of one size looks at "
        "n × n parts of the picture for a scale above 1",
    )
    augment: Views = Field(
        default="none",
        description="`flip`: the mean of the vectors of the picture and of its mirror image; `five-crop`: of its "
        "corners and its middle, for models whose recipe crops",
    )
    texts: list[Label] | None = Field(
        default=None, max_length=MOST_TEXTS, description="also vectors of these, in the same space as the pictures'"
    )
    labels: list[Label] | None = Field(
        default=None, max_length=MOST_TEXTS, description="also which of these the picture shows, without training"
    )
    template: str | None = Field(
        default=None, max_length=500, description="the text that a label stands in, as {}; null: the model's"
    )
    top_k: int | None = Field(default=None, ge=1, description="so many labels, the best first; null: all")
    confidence: Share | None = Field(default=None, description="only labels with at least this score")
    truncate: Truncation | None = Field(
        default=None, description="what is cut from a text with too many tokens; null: as the model's author says"
    )
    vectors: Literal["auto", "json", "npy", "none"] = Field(
        default="auto",
        description="`json`: vectors stand in the answers; `npy`: they are rows of the artifact embeddings.npy; "
        "`none`: they are left out; `auto`: none beside labels, else json up to 64 KiB of them",
    )
