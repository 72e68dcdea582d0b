"""A picture with its boxes drawn into it, to look at."""

import colorsys
from collections.abc import Mapping
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worker.contract import Picture
from worker.detection.found import Found
from worker.pictures.resize import pillow

#: Larger pictures are shrunk to it.
LONGEST_SIDE = 1600
_MOST_BOXES = 500
#: Of a circle of hues, so that classes with neighbouring numbers look different.
_GOLDEN_PART = 0.618034


def drawn(picture: Picture, found: Found, names: Mapping[int, str]) -> bytes:
    """A PNG; boxes in pixels of the picture, the best ones on top."""
    width, height = picture.size
    shrink = min(1.0, LONGEST_SIDE / max(width, height))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    image = Image.fromarray(pillow(picture.array, size, "bilinear"))
    draw = ImageDraw.Draw(image)
    most_line = max(2, round(max(size) / 400))
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1) * shrink
    # Beside small things large words would hide what they are about.
    usual = float(np.median(sides)) if len(found) else max(size)
    font = ImageFont.load_default(max(11, round(min(max(size) / 60, usual / 2))))
    for place in reversed(range(min(len(found), _MOST_BOXES))):
        left, top, right, bottom = (float(value) * shrink for value in found.boxes[place])
        class_id = int(found.classes[place])
        colour = _colour(class_id)
        line = max(1, min(most_line, round(sides[place] / 12)))
        draw.rectangle((left, top, max(right, left), max(bottom, top)), outline=colour, width=line)
        text = f"{names.get(class_id, class_id)} {found.scores[place]:.2f}"
        _label(draw, text, (left, top), colour, font)
        for x, y in found.landmarks[place] * shrink if found.landmarks is not None and line > 1 else ():
            draw.ellipse((x - line, y - line, x + line, y + line), fill=colour)
    file = BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()


def _label(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """On top of the box, or inside of it where there is no room."""
    left, top = corner
    x1, y1, x2, y2 = draw.textbbox((0, 0), text, font=font)
    width, height = x2 - x1 + 6, y2 - y1 + 6
    y = top - height if top >= height else top
    x = max(0.0, min(left, draw.im.size[0] - width))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 3 - x1, y + 3 - y1), text, fill=(0, 0, 0), font=font)


def _colour(class_id: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_PART % 1, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
