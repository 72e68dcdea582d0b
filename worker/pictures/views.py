"""Several looks at one picture, of which a task takes the mean: its mirror image, its corners, its parts."""

import math
from typing import Literal

from fleet.embeddings import fault
from worker.contract import Array
from worker.pictures.preprocess import Corner, Preprocess

Views = Literal["none", "flip", "five-crop"]
COUNTS: dict[Views, int] = {"none": 1, "flip": 2, "five-crop": 5}
#: In torchvision's order.
_CORNERS: tuple[Corner, ...] = (("first", "first"), ("first", "last"), ("last", "first"), ("last", "last"))


def views_of(picture: Array, preprocess: Preprocess, wanted: Views) -> list[Array]:
    """uint8 [h, w, 3] -> `COUNTS[wanted]` pictures of the size that is fed, uint8 [height, width, 3].

    Raises ValidationFailed `views-unsupported` where there are no corners.
    """
    if wanted == "five-crop":
        check_views(preprocess, wanted)
        resized = preprocess.resized(picture)
        return [preprocess.cropped(resized, at) for at in (*_CORNERS, (None, None))]
    pixels = preprocess.pixels(picture)
    return [pixels, pixels[:, ::-1]] if wanted == "flip" else [pixels]


def check_views(preprocess: Preprocess, wanted: Views) -> None:
    """Raises as `views_of`."""
    if wanted == "five-crop" and preprocess.recipe.crop is None:
        raise fault(
            "the model is fed whole pictures, so there are no corners to look at: its recipe crops nothing. Ask for "
            '"flip", or leave `augment` out',
            code="views-unsupported",
            where="#/params/augment",
        )


def pieces_of(picture: Array, scale: float) -> list[Array]:
    """uint8 [h, w, 3] -> n × n parts of it, uint8, each 1/scale of its height and width; n is `scale` rounded up.

    The first and last ones lie at the edges, the others evenly between them, so they overlap where `scale` is no whole
    number.
    """
    count = math.ceil(scale)
    height, width = (max(1, round(side / scale)) for side in picture.shape[:2])
    return [
        picture[top : top + height, left : left + width]
        for top in _starts(picture.shape[0] - height, count)
        for left in _starts(picture.shape[1] - width, count)
    ]


def _starts(free: int, count: int) -> list[int]:
    return [round(free * number / max(1, count - 1)) for number in range(count)]
