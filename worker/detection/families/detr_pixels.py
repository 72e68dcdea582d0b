"""How transformers' DETR-likes are fed: by the publisher's preprocessor_config.json, else as their class does it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array
from worker.detection.facts import Facts
from worker.pictures.resize import Filter, pillow

_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Pillow's numbers.
_FILTERS: Mapping[int, Filter] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
#: Of YOLOS, whose processor feeds whole patches.
_YOLOS_STEP = 16
_USUAL = (1280, 1280)
_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class Pixels:
    """Resized by Pillow, times `factor`, minus mean, over deviation."""

    #: (width, height) to which a picture is stretched; None: by its edges.
    size: tuple[int, int] | None
    #: The short side becomes so long, unless the long one became longer than that.
    edges: tuple[int, int] | None
    filter: Filter
    factor: float
    mean: tuple[float, ...] | None
    deviation: tuple[float, ...] | None
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
        return f"{fit}, {self.filter}, {'normalised' if self.mean else 'not normalised'}"

    @property
    def largest(self) -> tuple[int, int]:
        """Of an input; of pictures that stay as they are, what is usual."""
        return self.size or (self.edges[::-1] if self.edges else _USUAL)

    def of(self, picture: Array) -> Array:
        """uint8 [height, width, 3] -> float32 [1, 3, height, width]."""
        height, width = picture.shape[:2]
        size = self.size or (edged((width, height), *self.edges, self.step) if self.edges else (width, height))
        values = pillow(picture, size, self.filter).transpose(2, 0, 1) * np.float32(self.factor)
        if self.mean is not None and self.deviation is not None:
            values = (values - np.array(self.mean, np.float32)[:, None, None]) / np.array(self.deviation, np.float32)[
                :, None, None
            ]
        return np.ascontiguousarray(values, np.float32)[None]


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
    told = facts.preprocessor
    size, edges = _sizes(facts, told, activation)
    normal = bool(told.get("do_normalize", activation == "softmax"))
    resample = told.get("resample", 2)
    if resample not in _FILTERS:
        raise _unfit(f"resample {resample!r}")
    return Pixels(
        size,
        edges,
        _FILTERS[resample],
        float(told.get("rescale_factor", 1 / 255)) if told.get("do_rescale", True) else 1.0,
        _three(told, "image_mean", _IMAGENET_MEAN) if normal else None,
        _three(told, "image_std", _IMAGENET_DEVIATION) if normal else None,
        _YOLOS_STEP if facts.config.get("model_type") == "yolos" else 1,
    )


def _sizes(
    facts: Facts, told: Mapping[str, Any], activation: str
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    if not told.get("do_resize", True):
        return None, None
    said = told.get("size") or ({"shortest_edge": 800, "longest_edge": 1333} if activation == "softmax" else {})
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


def _three(told: Mapping[str, Any], name: str, usual: tuple[float, ...]) -> tuple[float, ...]:
    values = told.get(name, usual)
    if not isinstance(values, list | tuple) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
        raise _unfit(f"{name} {values!r}")
    return tuple(float(value) for value in values)


def _unfit(what: str) -> ModelError:
    return ModelError(f"{_FILE} says {what}, which detection does not do", code="preprocessor-unfit")
