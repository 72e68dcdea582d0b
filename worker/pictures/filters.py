"""Pillow's filters, by the names that recipes have for them."""

from typing import Literal

from PIL import Image

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
PILLOWS: dict[Filter, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
