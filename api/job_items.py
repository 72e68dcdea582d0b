"""The finished items of a job as lines of JSON: while it runs from the parts it has kept, later from its result.

See `fleet/job_items.py` for how a worker keeps them.
"""

from collections.abc import Iterable, Iterator
from itertools import count

import orjson

from fleet.contracts import Job, JobState
from fleet.errors import Conflict
from fleet.job_items import BLOCK, ITEMS_NAME, block_number
from fleet.objects import ObjectStore
from fleet.parts import PartStore


class JobItems:
    """Stateless; thread-safe."""

    def __init__(self, parts: PartStore, objects: ObjectStore) -> None:
        self._parts = parts
        self._objects = objects

    def lines(self, job: Job, first: int) -> Iterator[bytes]:
        """Those from number `first` on, in their order, each as a line. Of a job that goes on whole blocks are there.

        Raises Conflict `job-has-no-items` for a result that is no list, and for a job that ended without a result.
        """
        if not job.state.ended:
            return self._kept(job, first)
        result = job.result or {}
        if job.state is JobState.SUCCEEDED and isinstance(result.get("items"), list):
            return (orjson.dumps(item) + b"\n" for item in result["items"][first:])
        stored = [artifact.object for artifact in job.artifacts if artifact.name == ITEMS_NAME]
        if not stored:
            raise Conflict(
                f"job {job.id} is {job.state.value} and has no list of items",
                code="job-has-no-items",
                state=job.state.value,
            )
        return _from(first, _split(self._objects.stream(stored[0])))

    def _kept(self, job: Job, first: int) -> Iterator[bytes]:
        blocks = {block_number(name): part for name, part in self._parts.newest(job.id).items()}
        # Up to the first that is missing: who has read so many lines asks for the next with `first`.
        for number in count(first // BLOCK):
            # Or it has gone with the end of the job, meanwhile.
            content = self._parts.read(blocks[number]) if number in blocks else None
            if content is None:
                return
            lines = content.splitlines(keepends=True)
            yield from lines[max(0, first - number * BLOCK) :]


def begun(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The same, with the first one read already: a fault shows before an answer has begun.

    Raises NotFound or DependencyError of the object store.
    """
    first = next(lines, None)
    return iter(()) if first is None else _joined(first, lines)


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _from(first: int, lines: Iterable[bytes]) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        if number >= first:
            yield line


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest + b"\n"
