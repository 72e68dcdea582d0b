"""A job of one or many pictures: each is read, looked at, and answered on its own.

    Pictures (what the codec gives) -> each(..., one=...) -> ItemAnswers (what the codec writes)

A task only says what it makes of one picture. One bad picture among many fails alone; the only picture of a job fails
the job. Pictures are decoded when their turn comes, so a job of thousands holds a few of them.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field

from fleet.contracts import Stage
from fleet.cpus import usable_cpus
from fleet.errors import FleetError, InputError
from worker.contract import Model, Picture, Progress, TaskParams
from worker.pictures.answers import Answer, Drawn, ItemAnswers
from worker.pictures.blocks import Blocks
from worker.pictures.quality import quality_of

__all__ = ["Admit", "Answer", "Drawn", "Item", "ItemAnswers", "One", "PictureParams", "Pictures", "Stages", "each"]

#: Times the block as that stage of the job; of many pictures, which are worked on side by side, it does nothing.
Stages = Callable[[Stage], AbstractContextManager[None]]
#: What a task makes of a picture: its answer, as JSON.
One = Callable[[Picture, Stages], "dict[str, Any] | Drawn"]
#: Up to here a run need not ask for memory.
_SMALL_BYTES = 8 * 1024**2
_MOST_LANES = 16


class Admit(Protocol):
    """Asks for memory: `what` begins the sentence of a refusal."""

    def __call__(self, what: str, peak_bytes: int) -> None: ...


@dataclass(frozen=True)
class Item:
    """One picture that is still to be read. `read` raises an InputError for what is wrong with it."""

    name: str
    #: Asks for the memory that reading takes, and holding the picture after that.
    read: Callable[[Admit, Callable[[], None]], Picture]


@dataclass(frozen=True)
class Pictures:
    """What a task that accepts MediaKind.IMAGE gets."""

    items: Sequence[Item]
    #: Whether the answer is a list: of several inputs, or of an archive, even of one with a single picture.
    many: bool = False
    #: Of the files that they lie in.
    scratch_bytes: int = 0


class PictureParams(TaskParams):
    """What every task with pictures takes."""

    quality: bool = Field(default=False, description="also say how sharp, how well exposed and how large it is")
    alpha: Literal["white", "drop"] = Field(
        default="white",
        description="what shows through where a picture is transparent; `drop`: the colours stored there",
    )


def each(
    pictures: Pictures, params: PictureParams, model: Model, progress: Progress, one: One, *, run_bytes: int = 0
) -> ItemAnswers:
    """Calls `one` for each picture, several at a time where there are many.

    run_bytes: memory that one call of `one` takes besides the picture: the model's `run_bytes`, and large arrays.

    Raises the InputError of the only picture, and whatever is not the fault of a picture: ModelError, RunStopped,
    DependencyError.
    """
    lanes = min(len(pictures.items), _MOST_LANES, max(model.at_once + 1, usable_cpus())) if pictures.many else 1
    ledger = _Ledger(progress, pictures.scratch_bytes)
    if run_bytes * lanes > _SMALL_BYTES:
        ledger.take(f"work on {lanes} pictures at a time" if lanes > 1 else "work on a picture", run_bytes * lanes)

    def answered(index: int, stages: Stages) -> Answer:
        item = pictures.items[index]
        with ledger.part() as admit:
            with stages(Stage.DECODE):
                picture = item.read(admit, progress.check)
            made = one(picture, stages)
            result, png = (made.result, made.preview_png) if isinstance(made, Drawn) else (made, None)
            return Answer(index, item.name, _judged(result, picture, params), preview_png=png)

    if not pictures.many:
        return ItemAnswers([answered(0, progress.stage)], many=False)
    return ItemAnswers(_side_by_side(pictures.items, lanes, answered, progress), many=True)


def _side_by_side(
    items: Sequence[Item], lanes: int, answered: Callable[[int, Stages], Answer], progress: Progress
) -> list[Answer]:
    def caught(index: int) -> Answer:
        try:
            progress.check()
            return answered(index, lambda stage: nullcontext())
        except FleetError as error:
            if not isinstance(error, InputError) and error.code != "result-not-finite":
                raise
            return Answer(index, items[index].name, error=error)

    blocks = Blocks(progress, len(items))
    with progress.stage(Stage.INFER), ThreadPoolExecutor(lanes, "pictures") as pool:
        try:
            progress.advance(blocks.done, len(items))
            for answer in pool.map(caught, blocks.missing()):
                blocks.add(answer)
                progress.advance(blocks.done, len(items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return blocks.answers()


def _judged(result: dict[str, Any], picture: Picture, params: PictureParams) -> dict[str, Any]:
    """With what is said of every picture, whatever the task."""
    more: dict[str, Any] = {"quality": quality_of(picture)} if params.quality else {}
    if warnings := picture.about.get("warnings"):
        more["warnings"] = list(warnings)
    return result | more


class _Ledger:
    """What all lanes of a run hold together, since a run has one request for memory."""

    def __init__(self, progress: Progress, scratch_bytes: int) -> None:
        self._progress = progress
        self._scratch_bytes = scratch_bytes
        self._lock = threading.Lock()
        self._held = 0
        self._asked = 0

    def take(self, what: str, count: int) -> None:
        with self._lock:
            self._settle(what, self._held + count)

    @contextmanager
    def part(self) -> Iterator[Admit]:
        """Of one picture; given back at the end of the block. A second request replaces the first."""
        mine = 0

        def admit(what: str, peak_bytes: int) -> None:
            nonlocal mine
            with self._lock:
                self._settle(what, self._held - mine + peak_bytes)
                mine = peak_bytes

        try:
            yield admit
        finally:
            with self._lock:
                self._settle("", self._held - mine)

    def _settle(self, what: str, held: int) -> None:
        wanted = held if held > _SMALL_BYTES else 0
        if wanted != self._asked:
            self._progress.admit(what, wanted, scratch_bytes=self._scratch_bytes)
            self._asked = wanted
        self._held = held
