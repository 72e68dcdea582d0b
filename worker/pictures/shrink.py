"""How large a picture is made for a network, and that step as something that whoever decodes the picture can do.

A photograph has twenty times the pixels that a network looks at: made small where it is decoded, it is not copied from
process to process first. The numbers stay the same ones. Loaded by the decoding process, too, which starts fast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from worker.pictures.filters import PILLOWS, Filter

#: `stretch`: to a size whatever becomes of the proportions; `shortest-edge`: the short side to a length.
Way = Literal["stretch", "shortest-edge"]


def resized_to(way: Way, size: int | Sequence[int], picture: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of what a picture of that (height, width) becomes. What it has become stays as it is.

    size: of the shortest edge one number; else one for both sides, or height and width.
    """
    if way == "stretch" or not isinstance(size, int):
        height, width = (size, size) if isinstance(size, int) else size
        return height, width
    height, width = picture
    other = max(1, int(size * max(picture) / min(picture)))
    return (size, other) if height <= width else (other, size)


@dataclass(frozen=True)
class Shrink:
    """The first thing that is done with a picture, by Pillow: whoever does it again finds it done."""

    way: Way
    size: int | Sequence[int]
    kernel: Filter

    def size_of(self, picture: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of what is left of a picture of that size: all of it where a side would grow."""
        height, width = resized_to(self.way, self.size, picture)
        return (height, width) if height <= picture[0] and width <= picture[1] else picture

    def of(self, upright: Image.Image) -> Image.Image:
        """An RGB picture of the size that `size_of` says."""
        height, width = self.size_of((upright.height, upright.width))
        if (width, height) == upright.size:
            return upright
        return upright.resize((width, height), PILLOWS[self.kernel])
