"""A job of one or many pictures: each is read, looked at, and answered on its own.

    Pictures (what the codec gives) -> each(..., one=...) -> ItemAnswers (what the codec writes)

A task only says what it makes of one picture. One bad picture among many fails alone; the only picture of a job fails
the job. Pictures are decoded when their turn comes, so a job of thousands holds a few of them.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from fleet.contracts import Stage
from fleet.cpus import usable_cpus
from fleet.errors import FleetError, InputError
from worker.contract import Model, Picture, Progress, TaskParams
from worker.pictures.answers import Answer, Drawn, ItemAnswers, lines_of
from worker.pictures.blocks import Blocks
from worker.pictures.ledger import SMALL_BYTES, Admit, Ledger
from worker.pictures.quality import quality_of
from worker.pictures.shrink import Shrink
from worker.pictures.turns import Turns

__all__ = [
    "Admit",
    "Answer",
    "Check",
    "Drawn",
    "Item",
    "ItemAnswers",
    "One",
    "PictureParams",
    "Pictures",
    "Read",
    "Stages",
    "each",
]

#: Times the block as that stage of the job; of many pictures, which are worked on side by side, it does nothing.
Stages = Callable[[Stage], AbstractContextManager[None]]
#: Ends the work by raising when the job is no longer wanted.
Check = Callable[[], None]
#: Asks for the memory that reading takes, and holding the picture after that.
Read = Callable[[Admit, Check], Picture]
#: What a task makes of a picture: its answer, as JSON.
One = Callable[[Picture, Stages], "dict[str, Any] | Drawn"]
_MOST_LANES = 16
#: What an answer takes in memory, and its JSON beside it at the end, to a byte of that: measured at up to 3.8, and 1.
_OBJECTS_TO_JSON = 5


@dataclass(frozen=True)
class Item:
    """One picture that is still to be read. `read` raises an InputError for what is wrong with it."""

    name: str
    read: Read
    #: Gives a `read` whose picture comes made small so; None: nobody does that for it.
    shrunk: Callable[[Shrink], Read] | None = None


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
    pictures: Pictures,
    params: PictureParams,
    model: Model,
    progress: Progress,
    one: One,
    *,
    run_bytes: int = 0,
    answer_bytes: int = 0,
    held: Callable[[Picture], int] | None = None,
    in_turn: bool = False,
    hinges_on: str = "",
    shrink: Shrink | None = None,
) -> ItemAnswers:
    """Calls `one` for each picture, several at a time where there are many.

    run_bytes: memory that one call of `one` takes besides the picture: the model's `run_bytes`, and large arrays.
    answer_bytes: what each answer takes until the end of the job; 0: that is counted as they come.
    held: what it takes of a certain picture besides. in_turn: one at a time, for a `one` that has several threads.
    hinges_on: what decides the answers besides params and model, such as a setting of the worker.
    shrink: what `one` does first with each picture, and may find done by whoever decoded it.

    Raises the InputError of the only picture, and whatever is not the fault of a picture: ModelError, RunStopped,
    DependencyError.
    """
    lanes = 1
    if pictures.many and not in_turn:
        lanes = min(len(pictures.items), _MOST_LANES, max(model.at_once + 1, usable_cpus()))
        # Half is for the pictures.
        lanes = max(1, min(lanes, progress.memory_bytes // max(1, 2 * run_bytes)))
    ledger = Ledger(progress, pictures.scratch_bytes)
    if (always := run_bytes * lanes + answer_bytes * len(pictures.items)) > SMALL_BYTES:
        ledger.take(f"work on {lanes} pictures at a time" if lanes > 1 else "work on a picture", always)

    def answered(index: int, stages: Stages) -> Answer:
        item = pictures.items[index]
        with ledger.part() as admit, ledger.part() as admit_work:
            with stages(Stage.DECODE):
                # Quality is that of all its pixels.
                read = _reader(item, None if params.quality else shrink)
                picture = read(admit, progress.check)
            if held is not None:
                admit_work(f"work on a picture of {picture.size[0]} × {picture.size[1]} pixels", held(picture))
            made = one(picture, stages)
            result, png = (made.result, made.preview_png) if isinstance(made, Drawn) else (made, None)
            return Answer(index, item.name, _judged(result, picture, params), preview_png=png)

    if not pictures.many:
        return ItemAnswers([answered(0, progress.stage)], many=False)
    blocks = Blocks(progress, len(pictures.items), hinges_on)
    answers = _side_by_side(pictures.items, lanes, answered, progress, blocks, ledger=None if answer_bytes else ledger)
    return ItemAnswers(answers, many=True)


def _side_by_side(
    items: Sequence[Item],
    lanes: int,
    answered: Callable[[int, Stages], Answer],
    progress: Progress,
    blocks: Blocks,
    *,
    ledger: Ledger | None,
) -> list[Answer]:
    """ledger: of what the answers take; None where that is known before."""
    turns = Turns()

    def tried(index: int, turn: AbstractContextManager[None]) -> tuple[Answer, int]:
        """With the bytes that it takes until the job ends, about."""
        try:
            with turn:
                progress.check()
                answer = answered(index, lambda stage: nullcontext())
                return answer, _OBJECTS_TO_JSON * len(lines_of([answer])) + len(answer.preview_png or b"")
        except FleetError as error:
            if not isinstance(error, InputError) and error.code != "result-not-finite":
                raise
            return Answer(index, items[index].name, error=error), 0

    def made(index: int) -> tuple[Answer, int]:
        answer, held = tried(index, turns.beside())
        if lanes > 1 and answer.error is not None and answer.error.code == "not-enough-memory":
            # Beside the others' pictures: that is no fault of this one.
            answer, held = tried(index, turns.alone())
        return answer, held

    growth = _OBJECTS_TO_JSON * blocks.kept_bytes
    with progress.stage(Stage.INFER), ThreadPoolExecutor(lanes, "pictures") as pool:
        try:
            progress.advance(blocks.done, len(items))
            for answer, held in pool.map(made, blocks.missing()):
                blocks.add(answer)
                progress.advance(blocks.done, len(items))
                growth += held
                if ledger is not None and growth > SMALL_BYTES:
                    ledger.take(f"the answers to {len(items):,} pictures", growth)
                    growth = 0
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return blocks.answers()


def _reader(item: Item, shrink: Shrink | None) -> Read:
    return item.read if shrink is None or item.shrunk is None else item.shrunk(shrink)


def _judged(result: dict[str, Any], picture: Picture, params: PictureParams) -> dict[str, Any]:
    """With what is said of every picture, whatever the task."""
    more: dict[str, Any] = {"quality": quality_of(picture)} if params.quality else {}
    if warnings := picture.about.get("warnings"):
        more["warnings"] = list(warnings)
    return result | more
