"""The recipe that a model's publisher wrote down, in the form of transformers, of timm or of ultralytics.

What a file leaves out is what the class that it names does by itself: for transformers that is the table below, taken
from the image processors of transformers 5.23. A processor that does something else than resizing, cropping and
normalising is refused by name, never guessed at.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fleet.errors import ModelError
from worker.pictures.filters import Filter
from worker.pictures.recipe import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD, Recipe

#: Pillow's numbers of its filters.
FILTERS: dict[int, Filter] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_HALF = {"image_mean": HALF, "image_std": HALF}
_IMAGENET = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
_CLIP = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}
_SHORT_256 = {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224}
_SHORT_224 = {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224}
_CLASSES: dict[str, dict[str, Any]] = {
    "ViT": {"size": 224, "resample": 2} | _HALF,
    "DeiT": {"size": 256, "resample": 3, "do_center_crop": True, "crop_size": 224} | _HALF,
    "Beit": {"size": 224, "resample": 3} | _HALF,
    "ConvNext": {"size": {"shortest_edge": 384}, "resample": 3, "crop_pct": 224 / 256} | _HALF,
    "EfficientNet": {"size": 346, "crop_size": 289, "resample": 3, "include_top": True} | _HALF,
    "Bit": {"resample": 3} | _SHORT_224 | _CLIP,
    "CLIP": {"resample": 3} | _SHORT_224 | _CLIP,
    "Siglip": {"size": 224, "resample": 3} | _HALF,
    "Blip": {"size": 384, "resample": 3} | _CLIP,
    "Pvt": {"size": 224, "resample": 3} | _IMAGENET,
    "Levit": {"resample": 3, "crop_pct": 224 / 256} | _SHORT_224 | _IMAGENET,
    "PoolFormer": {"resample": 3, "crop_pct": 0.9} | _SHORT_224 | _IMAGENET,
    "MobileNetV1": {"resample": 2} | _SHORT_256 | _HALF,
    "MobileNetV2": {"resample": 2} | _SHORT_256 | _HALF,
    "MobileViT": {
        "size": {"shortest_edge": 224},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": 256,
        "do_normalize": False,
        "do_flip_channel_order": True,
    },
}
#: Others that do the same as one of them.
_SAME = {"Swin": "ViT", "Swinv2": "ViT", "Dinov2": "Bit", "ConvNeXT": "ConvNext", "ResNet": "ConvNext"}
_SUFFIXES = ("ImageProcessorPil", "ImageProcessorFast", "ImageProcessor", "FeatureExtractor")


@dataclass(frozen=True)
class Published:
    recipe: Recipe
    #: The file that said so.
    source: str


def of_transformers(said: Mapping[str, Any], file: str) -> Published:
    """Of a preprocessor_config.json. Raises ModelError `preprocess-unknown`."""
    written = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")
    family = next((written.removesuffix(suffix) for suffix in _SUFFIXES if written.endswith(suffix)), written)
    family = _SAME.get(family, family)
    if family not in _CLASSES:
        raise _unknown(f"{file} names the image processor {written!r}, which is none of {', '.join(sorted(_CLASSES))}")
    told = _CLASSES[family] | {name: value for name, value in said.items() if value is not None}
    if told.get("do_pad"):
        raise _unknown(f"{file} pads pictures (do_pad)")
    try:
        fields = _sized(family, told) | _levels(family, told)
        resample = int(told["resample"])
        return Published(Recipe.model_validate(fields | {"kernel": FILTERS[resample]}), file)
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise _unknown(f"{file} cannot be understood: {error}") from error


def _sized(family: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Resizing and cropping."""
    crop = _pair(told["crop_size"]) if told.get("do_center_crop") else None
    if not told.get("do_resize", True):
        return {"resize": "none", "crop": crop}
    short = _short_edge(family, told["size"])
    if short is None:
        return {"resize": "stretch", "size": _pair(told["size"]), "crop": crop}
    if family == "ConvNext":
        if short >= 384:
            return {"resize": "stretch", "size": short}
        return {"resize": "shortest-edge", "size": int(short / told["crop_pct"]), "crop": short}
    if family == "Levit":
        short = int(256 / 224 * short)
    elif family == "PoolFormer" and told["crop_pct"] is not None:
        short = int(short / told["crop_pct"])
    return {"resize": "shortest-edge", "size": short, "crop": crop}


def _short_edge(family: str, size: Any) -> int | None:
    """A bare number is the short edge where that is how the class measures, and both sides elsewhere."""
    if isinstance(size, dict):
        if size.get("longest_edge") is not None:
            raise ValueError("size limits the longest edge, too")
        return int(size["shortest_edge"]) if "shortest_edge" in size else None
    return int(size) if isinstance(size, int) and isinstance(_CLASSES[family]["size"], dict) else None


def _pair(size: Any) -> tuple[int, int]:
    """(height, width)."""
    if isinstance(size, dict):
        return int(size["height"]), int(size["width"])
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(height), int(width)


def _levels(family: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """From bytes to numbers."""
    levels: dict[str, Any] = {"rescale": float(told.get("rescale_factor", 1 / 255))}
    if not told.get("do_rescale", True):
        levels["rescale"] = 1.0
    elif family == "EfficientNet" and told.get("rescale_offset"):
        levels["shift"] = -1.0
    if told.get("do_normalize", True):
        levels |= {"mean": _three(told["image_mean"]), "std": _three(told["image_std"])}
    if family == "EfficientNet" and told["include_top"]:
        levels |= {"std": _three(told["image_std"]), "std_twice": bool(told.get("do_normalize", True))}
    if family == "MobileViT" and told["do_flip_channel_order"]:
        levels["channels"] = "bgr"
    return levels


def _three(value: Any) -> tuple[float, float, float]:
    first, second, third = [value] * 3 if isinstance(value, int | float) else value
    return float(first), float(second), float(third)


def of_timm(said: Mapping[str, Any], file: str) -> Published:
    """Of `pretrained_cfg` in the config.json of a timm model. Raises ModelError `preprocess-unknown`."""
    try:
        _, height, width = said["input_size"]
        percent, mode = float(said.get("crop_pct") or 0.875), said.get("crop_mode") or "center"
        kernel = said.get("interpolation") or "bicubic"
        if mode not in ("center", "squash") or (mode == "center" and height != width):
            raise ValueError(f"crop_mode {mode!r} at {height} × {width}")
        grown = math.floor(height / percent), math.floor(width / percent)
        resized = {"resize": "stretch", "size": grown} if mode == "squash" else {"size": grown[0]}
        levels = {"mean": _three(said["mean"]), "std": _three(said["std"])}
        fields = {"resize": "shortest-edge", "kernel": kernel, "crop": (height, width), "centre": "round"}
        return Published(Recipe.model_validate(fields | resized | levels), file)
    except (ValidationError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _unknown(f"{file} cannot be understood: {error}") from error


def of_ultralytics(size: tuple[int, int] | None) -> Published:
    """Of a `-cls` export, whose metadata have no more than (width, height): ImageNet's levels are not used there."""
    width, height = size or (224, 224)
    if width != height:
        raise _unknown(f"the graph's metadata say that it takes {width} × {height} pixels, which is no square")
    recipe = Recipe(resize="shortest-edge", size=height, kernel="bilinear", crop=height, centre="round")
    return Published(recipe, "the graph's metadata")


def _unknown(why: str) -> ModelError:
    return ModelError(
        f"how pictures become the input is not known: {why}. Say it in model.yaml under pipeline.preprocess",
        code="preprocess-unknown",
    )
