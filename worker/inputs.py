"""An input that lies in the object store, or in the job itself, made ready for its codec. Of URLs: worker/links.py."""

import base64
from pathlib import Path

from fleet.contracts import JobInput
from fleet.errors import DependencyError, InputError, IntegrityError, NoCapableWorker, NotFound
from fleet.objects import ObjectStore
from worker.contract import Source
from worker.patience import patiently
from worker.stop import StopToken

_PATIENCE_S = 10.0


def fetched(
    objects: ObjectStore, item: JobInput, path: Path, stop: StopToken, *, alone: bool
) -> tuple[Source, JobInput]:
    """The input on local disk, a small one in memory, and its description with the digest that was read.

    alone: whether the job fails with it. If not, an object that is gone, or is another than it was, becomes a fault.

    Raises NoCapableWorker `input-unavailable` while the store is away, RunStopped, NotFound, IntegrityError.
    """
    if item.inline is not None:
        content = base64.b64decode(item.inline.data)
        return Source(path, item.inline.name or "", item.inline.media_type, content=content), item
    assert item.object is not None  # noqa: S101 (an input is one or the other)
    reference = item.object
    # What was found under a prefix has no other name.
    name = reference.name or reference.key
    try:
        checked = patiently(lambda: objects.fetch(reference, path, lambda _: stop.check()), stop, _PATIENCE_S)
    except (NotFound, IntegrityError) as error:
        if alone:
            raise
        fault = InputError(error.message, code=error.code, **error.facts)
        return Source(path, name, reference.media_type, fault=fault, listed=item.listed), item
    except DependencyError as error:
        if not error.retryable:
            raise
        # Nothing is done yet that waiting could save, and others may not need the object store.
        raise NoCapableWorker(f"its input cannot be read now: {error.message}", code="input-unavailable") from error
    made = Source(path, name, reference.media_type, listed=item.listed)
    return made, item.model_copy(update={"object": checked})
