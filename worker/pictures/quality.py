"""How good a picture is to look at: its size, how sharp it is, and how it was exposed."""

from typing import Any

import numpy as np

from worker.contract import Array, Picture
from worker.pictures.resize import pillow

#: Sharpness depends on the number of pixels, so all pictures are looked at with at most so many on the long side.
_LOOKED_AT = 512
#: Of the Laplacian of grey levels; below it hardly an edge is left.
_BLURRED_BELOW = 60.0
_DARK_BELOW, _BRIGHT_ABOVE = 40.0, 215.0
_LOW_CONTRAST_BELOW = 20.0
_CLIPPED_ABOVE = 0.25
_SMALL_BELOW = 64


def quality_of(picture: Picture) -> dict[str, Any]:
    """What the pixels say.

    sharpness: variance of the Laplacian of grey levels 0..255 at 512 pixels on the long side (Pech-Pacheco et al.,
    2000). brightness and contrast: mean and standard deviation of the grey levels. dark and bright: the share of pixels
    below 8 and above 247. faults: which of "small", "blurred", "dark", "bright", "flat" and "clipped" it is.
    """
    width, height = picture.size
    grey = _grey(picture.array)
    sharpness = float(_laplacian(grey).var()) if min(grey.shape) >= 3 else 0.0
    brightness, contrast = float(grey.mean()), float(grey.std())
    dark, bright = float((grey < 8).mean()), float((grey > 247).mean())
    faults = {
        "small": min(width, height) < _SMALL_BELOW,
        "blurred": sharpness < _BLURRED_BELOW,
        "dark": brightness < _DARK_BELOW,
        "bright": brightness > _BRIGHT_ABOVE,
        "flat": contrast < _LOW_CONTRAST_BELOW,
        "clipped": dark + bright > _CLIPPED_ABOVE,
    }
    return {
        "width": width,
        "height": height,
        "megapixels": round(width * height / 1e6, 3),
        "sharpness": round(sharpness, 2),
        "brightness": round(brightness, 2),
        "contrast": round(contrast, 2),
        "dark_share": round(dark, 4),
        "bright_share": round(bright, 4),
        "faults": [name for name, found in faults.items() if found],
    }


def _grey(array: Array) -> Array:
    """Luma (ITU-R BT.601) as float32, shrunk where the picture is larger than what is looked at."""
    height, width = array.shape[:2]
    shrink = _LOOKED_AT / max(height, width)
    if shrink < 1:
        array = pillow(array, (max(1, round(width * shrink)), max(1, round(height * shrink))), "bilinear")
    grey: Array = array.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return grey


def _laplacian(grey: Array) -> Array:
    middle = grey[1:-1, 1:-1]
    edges: Array = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    return edges
