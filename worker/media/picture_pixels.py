"""From whatever a picture's file holds to upright RGB. Runs in the decoding child (picture_child.py).

What the libraries do that models were trained with is done here, too: EXIF orientation is applied, ICC profiles are
not. Two things they do badly are not: 16-bit grey is scaled where Pillow clips it to white, and what is transparent
shows white where dropping the alpha channel would show colours that nobody saw.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import numpy as np
from PIL import Image

from fleet.errors import UnsupportedMedia

Alpha = Literal["white", "drop"]
_ORIENTATION, _PHOTOMETRIC = 0x0112, 0x0106
#: Source: Exif 2.3, tag Orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")
#: Modes that carry alpha themselves; others may name a colour that is transparent.
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


def upright_rgb(image: Image.Image, alpha: Alpha) -> tuple[Image.Image, int]:
    """In mode RGB, and the orientation that the file told, 1 to 8. Raises as `Image.load`.

    Raises UnsupportedMedia `unsupported-pixels` for numbers of which nobody knows what is black and what is white.
    """
    # Pillow turns a TIFF while it loads it, and forgets the tag; of a PNG the tag may come after the pixels.
    turned = image.format == "TIFF"
    told = orientation_of(image) if turned else 1
    image.load()
    told = told if turned else orientation_of(image)
    rgb = as_rgb(image, alpha)
    if told in _TURNS and not turned:
        rgb = rgb.transpose(_TURNS[told])
    return rgb, told


def orientation_of(
    image: Image.Image, exif_of: Callable[[Image.Image], Image.Exif] = lambda image: image.getexif()
) -> int:
    """1 where there is none that makes sense: EXIF data are often damaged in pictures that are sound."""
    with suppress(Exception):
        told = exif_of(image).get(_ORIENTATION, 1)
        if told in _TURNS:
            return int(told)
    return 1


def as_rgb(image: Image.Image, alpha: Alpha) -> Image.Image:
    """Raises UnsupportedMedia `unsupported-pixels`."""
    if image.mode == "F":
        raise UnsupportedMedia(
            "the picture's pixels are floating-point numbers, and nothing says which is black and which is white: "
            "send 8 or 16 bits",
            code="unsupported-pixels",
            mode=image.mode,
        )
    if image.mode in _DEEP:
        return _shallow(image).convert("RGB")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        # Pillow has no way from grey that was multiplied by its alpha to colours.
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        if alpha == "white":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _shallow(image: Image.Image) -> Image.Image:
    """16-bit grey as 8 bits: of each number the higher byte, as OpenCV takes it."""
    deep = np.asarray(image)
    least, most = (int(deep.min()), int(deep.max())) if deep.size else (0, 0)
    # Of 32 bits some hold bytes: as 16 bits these would all be black.
    if deep.dtype.itemsize > 2 and (least < 0 or most > 0xFFFF or 0 < most <= 0xFF):
        raise UnsupportedMedia(
            f"the picture's pixels are whole numbers of 32 bits, from {least} to {most}, and nothing says which is "
            "white: send 8 or 16 bits",
            code="unsupported-pixels",
            mode=image.mode,
        )
    grey = (deep >> 8).astype(np.uint8)
    # Of a TIFF whose zeros are white Pillow turns 8 bits over, and no more.
    return Image.fromarray(~grey if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0 else grey)
