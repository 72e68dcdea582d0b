"""How a picture becomes a network's input, said in full: `pipeline.preprocess` of a model.yaml, or read by
published.py from the files that a model's publisher laid beside it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker.pictures.filters import Filter
from worker.pictures.shrink import Way

Side = Annotated[int, Field(ge=1, le=8192)]
Level = Annotated[float, Field(allow_inf_nan=False)]
Spread = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Levels = tuple[Level, Level, Level]
Spreads = tuple[Spread, Spread, Spread]

IMAGENET_MEAN: Levels = (0.485, 0.456, 0.406)
IMAGENET_STD: Spreads = (0.229, 0.224, 0.225)
HALF: Spreads = (0.5, 0.5, 0.5)
CLIP_MEAN: Levels = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Spreads = (0.26862954, 0.26130258, 0.27577711)


class Recipe(BaseModel):
    """resize -> centre crop -> value · rescale + shift -> (value - mean) / std."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: `stretch`: to `size` whatever becomes of the proportions; `shortest-edge`: the short side to `size`.
    resize: Literal[Way, "none"] = "stretch"
    #: In pixels: one number, or [height, width].
    size: Side | tuple[Side, Side] = 224
    #: Pillow's filters, which average over all that a pixel covers, or OpenCV's, which does not.
    kernel: Filter | Literal["opencv-linear"] = "bilinear"
    #: [height, width], or one number for both; a smaller picture is set in black.
    crop: Side | tuple[Side, Side] | None = None
    #: Where half a pixel goes when the middle is cut out: `floor` as in transformers, `round` as in timm.
    centre: Literal["floor", "round"] = "floor"
    rescale: Level = 1 / 255
    shift: Level = 0.0
    mean: Levels = (0.0, 0.0, 0.0)
    std: Spreads = (1.0, 1.0, 1.0)
    #: Divided by `std` once more, as transformers does for EfficientNet.
    std_twice: bool = False
    channels: Literal["rgb", "bgr"] = "rgb"

    @model_validator(mode="after")
    def _one_short_side(self) -> "Recipe":
        if self.resize == "shortest-edge" and not isinstance(self.size, int):
            raise ValueError("size: the shortest edge is one number")
        return self

    @property
    def fed(self) -> tuple[int, int] | None:
        """(height, width) of the input; None when that depends on the picture."""
        if self.crop is not None:
            return _both(self.crop)
        return _both(self.size) if self.resize == "stretch" else None

    @property
    def stretched(self) -> tuple[int, int]:
        """(height, width) that `stretch` makes."""
        return _both(self.size)

    def told(self) -> str:
        """In words, for who checks a model."""
        size = "x".join(map(str, (self.size,) if isinstance(self.size, int) else self.size))
        steps = [] if self.resize == "none" else [f"{self.resize} {size} ({self.kernel})"]
        steps += [f"centre crop {'x'.join(map(str, _both(self.crop)))}"] if self.crop is not None else []
        steps += [f"mean {_short(self.mean)}, std {_short(self.std)}{' twice' if self.std_twice else ''}"]
        return f"{', '.join(steps)}, {self.channels.upper()}"


def _both(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _short(values: tuple[float, float, float]) -> str:
    return "/".join(f"{value:.4g}" for value in values)
