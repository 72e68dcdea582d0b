"""A job's inputs made ready for their codec: from the object store, the record, the job itself, or a URL."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fleet.contracts import Job, JobInput, MediaKind, ObjectRef
from fleet.errors import DependencyError, InputError, IntegrityError, NoCapableWorker, NotFound
from fleet.kept_inputs import KeptInputs
from fleet.objects import ObjectStore
from worker.contract import Progress, Source
from worker.links import Fetched, Links
from worker.patience import patiently
from worker.stop import StopToken

_PATIENCE_S = 10.0
T = TypeVar("T")


class Inputs:
    """Thread-safe."""

    def __init__(self, objects: ObjectStore, kept: KeptInputs, links: Links) -> None:
        self._objects = objects
        self._kept = kept
        self._links = links

    def fetched(
        self, job: Job, scratch: Path, accepts: MediaKind, progress: Progress, stop: StopToken
    ) -> list[Fetched]:
        """Each in order, on local disk or in memory, and its description with the digest that was read.

        `scratch` is made where there is something to put there.

        Raises NoCapableWorker `input-unavailable` while the store is away, RunStopped, NotFound, IntegrityError, and
        as `Links.fetched`.
        """
        if any(item.object is not None or item.link is not None for item in job.inputs):
            scratch.mkdir(mode=0o700)
        if stored := sum(item.object.size for item in job.inputs if item.object is not None):
            progress.admit(f"an input of {stored:,} bytes", 0, scratch_bytes=stored)
        # If not, what is wrong with one input is not the fault of the others.
        alone = accepts is not MediaKind.IMAGE or (len(job.inputs) == 1 and not job.inputs[0].listed)

        def hold(linked: int) -> None:
            progress.admit(f"inputs of {stored + linked:,} bytes", 0, scratch_bytes=stored + linked)

        given = self._links.fetched(job.inputs, scratch, stop.check, hold)
        beside = {number: item.kept for number, item in enumerate(job.inputs) if item.kept is not None}
        contents = _had(lambda: self._kept.contents(job.id, beside), stop)
        for number, item in enumerate(job.inputs):
            path = scratch / f"input-{number}"
            if item.object is not None:
                given[number] = self._of_object(item, item.object, path, stop, alone=alone)
            elif item.kept is not None:
                kept = item.kept
                given[number] = Source(path, kept.name or "", kept.media_type, content=contents[number]), item
            elif item.inline is not None:
                few = item.inline
                content = base64.b64decode(few.data)
                given[number] = Source(path, few.name or "", few.media_type, content=content), item
        return [given[number] for number in range(len(job.inputs))]

    def _of_object(self, item: JobInput, reference: ObjectRef, path: Path, stop: StopToken, *, alone: bool) -> Fetched:
        """alone: whether the job fails with it. If not, an object that is gone, or has changed, becomes a fault."""
        # What was found under a prefix has no other name.
        name = reference.name or reference.key
        try:
            checked = _had(lambda: self._objects.fetch(reference, path, lambda _: stop.check()), stop)
        except (NotFound, IntegrityError) as error:
            if alone:
                raise
            fault = InputError(error.message, code=error.code, **error.facts)
            return Source(path, name, reference.media_type, fault=fault, listed=item.listed), item
        made = Source(path, name, reference.media_type, listed=item.listed)
        return made, item.model_copy(update={"object": checked})


def _had(call: Callable[[], T], stop: StopToken) -> T:
    """Raises NoCapableWorker `input-unavailable` where the store or the record is away for longer than a moment."""
    try:
        return patiently(call, stop, _PATIENCE_S)
    except DependencyError as error:
        if not error.retryable:
            raise
        # Nothing is done yet that waiting could save, and others may not need what is away.
        raise NoCapableWorker(f"its input cannot be read now: {error.message}", code="input-unavailable") from error
