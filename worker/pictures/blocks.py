"""The answers of a job of many pictures, kept block by block as parts of the job while it goes on.

A later attempt makes only the others, and whoever waits can read those that are there (api/job_items.py).
"""

from collections.abc import Iterator

from fleet.job_items import BLOCK, block_name
from worker.contract import Progress
from worker.pictures.answers import Answer, answers_in, lines_of

#: How answers are written: parts of another form are not taken.
_FORM = f"items 1, {BLOCK} each"


class Blocks:
    """Used by one thread. Answers come in the order of `missing`."""

    def __init__(self, progress: Progress, count: int, hinges_on: str = "") -> None:
        """Reads what earlier attempts have kept, where it hinged on the same. Raises RunStopped, DependencyError."""
        self._count = count
        self._answers: dict[int, Answer] = {}
        #: Of the lines that earlier attempts have kept.
        self.kept_bytes = 0
        # A job of few is done before anybody could look.
        self._parts = progress.parts(f"{_FORM} {hinges_on}") if count > BLOCK else None
        if self._parts is not None:
            for block in range(-(-count // BLOCK)):
                lines = self._parts.read(block_name(block)) or b""
                self.kept_bytes += len(lines)
                self._answers |= {answer.index: answer for answer in answers_in(lines)}

    @property
    def done(self) -> int:
        return len(self._answers)

    def missing(self) -> list[int]:
        return [index for index in range(self._count) if index not in self._answers]

    def add(self, answer: Answer) -> None:
        """Keeps its block, once that is whole. Raises RunStopped, DependencyError, ModelError `result-not-finite`."""
        self._answers[answer.index] = answer
        block = answer.index // BLOCK
        if self._parts is None or answer.index != min((block + 1) * BLOCK, self._count) - 1:
            return
        answers = list(self._of(block))
        # A picture of a picture is not kept: that one is made anew.
        if not any(answer.preview_png for answer in answers):
            self._parts.keep(block_name(block), lines_of(answers))

    def answers(self) -> list[Answer]:
        """All of them, in the order of the pictures."""
        return [self._answers[index] for index in range(self._count)]

    def _of(self, block: int) -> Iterator[Answer]:
        for index in range(block * BLOCK, min((block + 1) * BLOCK, self._count)):
            yield self._answers[index]
