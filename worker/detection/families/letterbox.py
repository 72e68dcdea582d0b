"""How the YOLOs of ultralytics are fed, before and since v8: RGB over 255 in the middle of grey."""

from dataclasses import dataclass

from worker.contract import Array, Tensor
from worker.detection.facts import Facts
from worker.detection.family import Prepared
from worker.detection.fitting import Frame, letterboxed, planes

_STRIDE = 32


@dataclass(frozen=True)
class Letterbox:
    image: Tensor
    size: tuple[int, int]
    #: Of the smallest rectangle; None: always the whole size.
    stride: int | None

    @classmethod
    def of(cls, facts: Facts) -> "Letterbox":
        noted = facts.ultralytics.stride if facts.ultralytics else None
        rectangle = facts.free_sides and facts.settings.rectangle
        return cls(facts.image, facts.size, max(noted or _STRIDE, _STRIDE) if rectangle else None)

    def prepared(self, picture: Array) -> Prepared:
        fitted = letterboxed(picture, self.size, stride=self.stride)
        return Prepared({self.image.name: planes(fitted.pixels, self.image.dtype, 255.0)}, fitted.frame)

    @property
    def told(self) -> str:
        width, height = self.size
        return f"letterboxed into {width} × {height}" + (f", or less in steps of {self.stride}" if self.stride else "")


@dataclass(frozen=True)
class Letterboxed:
    """What families that are fed so have in common: their answer is one output."""

    letterbox: Letterbox
    output: str

    @property
    def largest(self) -> tuple[int, int]:
        return self.letterbox.size

    def prepared(self, picture: Array) -> Prepared:
        return self.letterbox.prepared(picture)


class Unrounded(Letterboxed):
    """Libraries that find their way back as YOLOv5 does: by one gain, and by a border of which half pixels count."""

    def prepared(self, picture: Array) -> Prepared:
        made = self.letterbox.prepared(picture)
        (width, height), size = made.frame.picture, made.frame.size
        gain = min(size[1] / height, size[0] / width)
        offset = (size[0] - width * gain) / 2, (size[1] - height * gain) / 2
        return Prepared(made.feeds, Frame(made.frame.picture, size, (gain, gain), offset))
