"""Tiles of a picture: which parts of it are looked at one by one, so that small things are seen as large as they are.

As `sahi.slicing.get_slice_bboxes` of sahi 0.12.8 places them: a tile that would reach beyond an edge is shifted back
inside, and never padded; a picture that is smaller than a tile is one tile of its own size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from worker.contract import Array
from worker.pictures.on_disk import copied


@dataclass(frozen=True)
class Tile:
    """A part of a picture, in its pixels; right and bottom are beyond the last one."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, picture: Array) -> Array:
        """uint8 [height, width, 3] of it, in memory."""
        return copied(picture[self.top : self.bottom, self.left : self.right])


@dataclass(frozen=True)
class Grid:
    """Tiles over a picture. `size` and `tile` are (width, height) in pixels; `overlap` a share of the tile below 1."""

    size: tuple[int, int]
    tile: tuple[int, int]
    overlap: float

    @property
    def count(self) -> int:
        """Found out without making them: there may be very many."""
        across, down = (
            _count(length, side, int(self.overlap * side)) for length, side in zip(self.size, self.tile, strict=True)
        )
        return across * down

    def __iter__(self) -> Iterator[Tile]:
        """Row by row, from the top."""
        across, down = (
            list(_places(length, side, int(self.overlap * side)))
            for length, side in zip(self.size, self.tile, strict=True)
        )
        for top, bottom in down:
            for left, right in across:
                yield Tile(left, top, right, bottom)


def _count(length: int, side: int, overlap: int) -> int:
    return 1 if length <= side else 1 - (side - length) // (side - overlap)


def _places(length: int, side: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each tile along one side."""
    begin = 0
    while begin + side < length:
        yield begin, begin + side
        begin += side - overlap
    yield max(0, length - side), length
