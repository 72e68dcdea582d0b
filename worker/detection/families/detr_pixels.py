"""How transformers' DETR-likes are fed: by the publisher's preprocessor_config.json, else as their class does it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from fleet.errors import ModelError
from worker.contract import Array
from worker.detection.facts import Facts
from worker.pictures.filters import Filter
from worker.pictures.preprocess import Preprocess
from worker.pictures.published import FILTERS
from worker.pictures.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe
from worker.pictures.resize import pillow

#: Kinds whose processors stretch pictures and leave their levels as they are; the others go by edges, and normalise.
_PLAIN = ("rt_detr", "rt_detr_v2", "d_fine")
#: Of YOLOS, whose processor feeds whole patches.
_YOLOS_STEP = 16
_USUAL = (1280, 1280)
_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class Pixels:
    """Resized by Pillow, and then made numbers of."""

    #: (width, height) to which a picture is stretched; None: by its edges.
    size: tuple[int, int] | None
    #: The short side becomes so long, unless the long one became longer than that.
    edges: tuple[int, int] | None
    filter: Filter
    preprocess: Preprocess
    #: Sides found by their edges are cut to multiples of it.
    step: int = 1

    @property
    def told(self) -> str:
        if self.size is not None:
            fit = f"stretched to {self.size[0]} × {self.size[1]}"
        elif self.edges is not None:
            fit = f"shortest side {self.edges[0]}, longest at most {self.edges[1]}"
        else:
            fit = "as large as they are"
        return f"{fit}, {self.filter}, {'normalised' if any(self.preprocess.recipe.mean) else 'not normalised'}"

    @property
    def largest(self) -> tuple[int, int]:
        """Of an input; of pictures that stay as they are, what is usual."""
        return self.size or (self.edges[::-1] if self.edges else _USUAL)

    def of(self, picture: Array) -> Array:
        """uint8 [height, width, 3] -> float32 [1, 3, height, width]."""
        height, width = picture.shape[:2]
        size = self.size or (edged((width, height), *self.edges, self.step) if self.edges else (width, height))
        return self.preprocess.numbers(pillow(picture, size, self.filter))[None]


def edged(size: tuple[int, int], shortest: int, longest: int, step: int = 1) -> tuple[int, int]:
    """(width, height) of a picture of `size` by transformers' rule of shortest and longest edge."""
    width, height = _edged(size, shortest, longest)
    return width - width % step, height - height % step


def _edged(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    short, long = min(size), max(size)
    # Rounded for the short side, and as it is for the long one.
    exact: float = shortest
    if long / short * shortest > longest:
        exact = longest * short / long
    side = round(exact)
    if short == side:
        return size
    other = int(exact * long / short)
    return (side, other) if size[0] < size[1] else (other, side)


def pixels_of(facts: Facts, activation: Literal["sigmoid", "softmax"]) -> Pixels:
    """Raises ModelError `preprocessor-unfit` for a file that asks for what is not done here."""
    told = {name: value for name, value in facts.preprocessor.items() if value is not None}
    kind = facts.config.get("model_type")
    plain = kind in _PLAIN or (kind is None and activation == "sigmoid")
    size, edges = _sizes(facts, told, plain=plain)
    if told.get("pad_size"):
        raise _unfit("pad_size")
    levels: dict[str, Any] = {"resize": "none", "rescale": told.get("rescale_factor", 1 / 255)}
    if not told.get("do_rescale", True):
        levels["rescale"] = 1.0
    if told.get("do_normalize", not plain):
        levels |= {"mean": told.get("image_mean", IMAGENET_MEAN), "std": told.get("image_std", IMAGENET_STD)}
    try:
        kernel, preprocess = FILTERS[int(told.get("resample", 2))], Preprocess(Recipe.model_validate(levels))
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise _unfit(str(error)) from error
    return Pixels(size, edges, kernel, preprocess, _YOLOS_STEP if kind == "yolos" else 1)


def _sizes(
    facts: Facts, told: Mapping[str, Any], *, plain: bool
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    if not told.get("do_resize", True):
        return None, None
    said = told.get("size") or ({} if plain else {"shortest_edge": 800, "longest_edge": 1333})
    if facts.settings.input_size is not None or not facts.free_sides:
        said = {}
    if isinstance(said, int):
        said = {"shortest_edge": said, "longest_edge": told.get("max_size", 1333)}
    match said:
        case {"height": int(height), "width": int(width)}:
            return (width, height), None
        case {"shortest_edge": int(shortest), "longest_edge": int(longest)}:
            return None, (shortest, longest)
        case {} if not said:
            return facts.size, None
        case _:
            raise _unfit(f"size {said!r}")


def _unfit(what: str) -> ModelError:
    return ModelError(f"{_FILE} says {what}, which detection does not do", code="preprocessor-unfit")
