"""What every family of detectors says of itself; one file in `families/` for each.

reader(facts) -> Family | None      whether the file can be read so
family.prepared(picture) -> feeds   the family's own resizing and scaling
family.found(outputs, ...)          the family's own way from numbers to boxes
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from worker.contract import Array
from worker.detection.facts import Facts
from worker.detection.fitting import Frame
from worker.detection.found import Found, Wanted
from worker.detection.settings import FamilyName


@dataclass(frozen=True)
class Defaults:
    """What the family's own library does for those who say nothing."""

    confidence: float
    max_detections: int
    #: None: boxes that overlap are left as the graph gives them.
    iou: float | None = None
    agnostic: bool = False
    #: Of each point that it finds, which one it is in a mirror.
    mirrored_points: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Prepared:
    """One picture as input, a batch of one, and where it lies in it."""

    feeds: Mapping[str, Array]
    frame: Frame


class Family(Protocol):
    """How one graph is fed and read. Immutable; used by many threads."""

    name: ClassVar[FamilyName]

    @property
    def defaults(self) -> Defaults: ...

    @property
    def classes(self) -> int | None:
        """How many classes the graph tells apart; None where it does not show."""
        ...

    @property
    def told(self) -> str:
        """For people: the form of the outputs, and how pictures are fed."""
        ...

    @property
    def largest(self) -> tuple[int, int]:
        """(width, height) of the largest input, for whoever has to know what a run can take."""
        ...

    def prepared(self, picture: Array) -> Prepared:
        """picture: uint8 [height, width, 3], RGB, upright."""
        ...

    def found(self, outputs: Mapping[str, Array], frame: Frame, wanted: Wanted) -> Found:
        """Boxes in pixels of the picture, best first, of the only row of the batch; perhaps beyond its edges."""
        ...


#: None for a file that is something else. Raises ModelError for what is of this family and cannot be served.
Reader = Callable[[Facts], Family | None]


@dataclass(frozen=True)
class Reading:
    """A family, as recognition knows it."""

    name: FamilyName
    #: What the outputs are then, for who has to choose between two.
    meaning: str
    #: The form that a graph must have, for who named the family and has another one.
    form: str
    reader: Reader
