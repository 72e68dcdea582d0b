"""How a picture is laid into what a graph is fed, and how boxes come back from there."""

from dataclasses import dataclass

import numpy as np

from worker.contract import Array
from worker.detection.found import Found
from worker.pictures.channels import channels_first
from worker.pictures.resize import linear, linear_into

#: Grey of what is left free.
PADDING = 114


@dataclass(frozen=True)
class Frame:
    """Where a picture lies in its input: x in the input = x in the picture · gain + left."""

    #: (width, height) of the picture.
    picture: tuple[int, int]
    #: (width, height) of the input.
    size: tuple[int, int]
    gain: tuple[float, float]
    offset: tuple[float, float] = (0.0, 0.0)

    def back(self, found: Found) -> Found:
        """From pixels of the input to those of the picture; what lay on the border lies outside of it then."""
        gain, offset = np.array(self.gain, np.float32), np.array(self.offset, np.float32)
        boxes = ((found.boxes.reshape(-1, 2, 2) - offset) / gain).reshape(-1, 4)
        landmarks = None if found.landmarks is None else (found.landmarks - offset) / gain
        return Found(boxes, found.scores, found.classes, landmarks)


@dataclass(frozen=True)
class Fitted:
    """uint8 [height, width, 3] and where the picture lies in it."""

    pixels: Array
    frame: Frame


def letterboxed(picture: Array, size: tuple[int, int], *, stride: int | None = None, margin: int = 0) -> Fitted:
    """As large as it fits, in the middle, the rest grey: as ultralytics' LetterBox (it enlarges as well).

    stride: the smallest rectangle of multiples of it, rather than the whole `size`. margin: pixels of both sides
    together that stay free.
    """
    height, width = picture.shape[:2]
    gain = min((size[1] - margin) / height, (size[0] - margin) / width)
    inner = max(round(width * gain), 1), max(round(height * gain), 1)
    free = size[0] - inner[0], size[1] - inner[1]
    if stride is not None:
        free = free[0] % stride, free[1] % stride
    # Half a pixel goes to the right and below.
    left, top = round(free[0] / 2 - 0.1), round(free[1] / 2 - 0.1)
    whole = inner[0] + free[0], inner[1] + free[1]
    frame = Frame((width, height), whole, (inner[0] / width, inner[1] / height), (left, top))
    return Fitted(_laid(picture, inner, whole, left, top), frame)


def cornered(picture: Array, size: tuple[int, int], *, nearest: bool = False) -> Fitted:
    """As large as it fits, at the top left, the rest grey: as YOLOX, with sides rounded down, or to the nearest."""
    height, width = picture.shape[:2]
    gain = min(size[1] / height, size[0] / width)
    whole = round if nearest else int
    inner = max(whole(width * gain), 1), max(whole(height * gain), 1)
    return Fitted(_laid(picture, inner, size, 0, 0), Frame((width, height), size, (gain, gain)))


def stretched(picture: Array, size: tuple[int, int]) -> Fitted:
    """Whole, whatever becomes of its proportions."""
    return Fitted(linear(picture, size), whole_frame(picture, size))


def whole_frame(picture: Array, size: tuple[int, int]) -> Frame:
    """Of a picture that fills its input."""
    height, width = picture.shape[:2]
    return Frame((width, height), size, (size[0] / width, size[1] / height))


def _laid(picture: Array, inner: tuple[int, int], whole: tuple[int, int], left: int, top: int) -> Array:
    if inner == whole:
        return linear(picture, inner)
    canvas = np.full((whole[1], whole[0], 3), PADDING, np.uint8)
    linear_into(picture, canvas[top : top + inner[1], left : left + inner[0]])
    return canvas


def planes(pixels: Array, dtype: np.dtype[np.generic], divisor: float = 1.0, *, bgr: bool = False) -> Array:
    """uint8 [height, width, 3] RGB -> [1, 3, height, width] of the graph's type, each value over `divisor`."""
    channels = channels_first(pixels[..., ::-1] if bgr else pixels)
    if dtype == np.uint8:
        return channels[None]
    made = np.empty(channels.shape, np.float32)
    np.divide(channels, np.float32(divisor), out=made)
    return made.astype(dtype, copy=False)[None]
