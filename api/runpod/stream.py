"""A job's answer piece by piece, each told once: the items of many pictures as they are finished, else all at its end.

How far it was told is in the record, so that it does not matter which API process is asked, or how often.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any
from uuid import uuid4

import orjson

from api.inference.answer import wrapped
from api.job_items import JobItems
from fleet.contracts import Job, JobState
from fleet.endpoints import Endpoints
from fleet.errors import Conflict

#: Of one answer, as RunPod has it.
_MOST_BYTES = 1_000_000
_TRIES = 3


class Streams:
    """Stateless; thread-safe."""

    def __init__(self, endpoints: Endpoints, items: JobItems) -> None:
        self._endpoints = endpoints
        self._items = items

    def next(self, job: Job, base_url: str) -> list[dict[str, Any]]:
        """What was not told yet, as {"output": ...}, up to a megabyte. Raises DependencyError, NotFound."""
        reader = uuid4().hex
        for _ in range(_TRIES):
            told = self._endpoints.told(job)
            pieces = _fitting(self._pieces(job, told, base_url), job)
            if not pieces or self._endpoints.tell(job, told, told + len(pieces), reader):
                return pieces
        return []

    def _pieces(self, job: Job, told: int, base_url: str) -> Iterator[Any]:
        """From number `told` on."""
        if job.state in (JobState.FAILED, JobState.EXPIRED):
            return
        try:
            lines = self._items.lines(job, told)
            # What is stored is looked for with the first one.
            first = next(lines, None)
        except Conflict:
            # Of one picture, or of no pictures at all.
            if told == 0:
                yield wrapped(job, base_url)
            return
        if first is not None:
            yield from (orjson.loads(line) for line in chain([first], lines))


def _fitting(pieces: Iterator[Any], job: Job) -> list[dict[str, Any]]:
    """As many as fit; one that is larger than all that may be told says where it can be read."""
    fitting: list[dict[str, Any]] = []
    room = _MOST_BYTES
    for piece in pieces:
        told = {"output": piece}
        size = len(orjson.dumps(told)) + 1
        if size > _MOST_BYTES:
            told = {"output": _elsewhere(piece, job)}
            size = len(orjson.dumps(told)) + 1
        room -= size
        if room < 0:
            break
        fitting.append(told)
    return fitting


def _elsewhere(piece: Any, job: Job) -> dict[str, Any]:
    detail = f"it is larger than {_MOST_BYTES:,} bytes: see the output of the job, or /api/v1/jobs/{job.id}"
    about = {name: piece[name] for name in ("index", "name") if name in piece}
    return {**about, "error": {"code": "chunk-too-large", "detail": detail}}
