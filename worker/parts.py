"""The parts that a run keeps for the attempts after it: `worker.contract.Parts`, behind its token and patience."""

import hashlib
import json
import re
from collections.abc import Sequence

import onnxruntime

from fleet.contracts import Job, JobInput, ObjectRef
from fleet.errors import RunStopped
from fleet.logs import get_logger
from fleet.parts import PartStore
from worker.engine.loaded import LoadedModel
from worker.patience import patiently
from worker.stop import StopReason, StopToken

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
log = get_logger(__name__)


class JobParts:
    """Of one run. Thread-safe, but for two that keep the same part."""

    def __init__(  # noqa: PLR0917 (put together in one place, worker/runner.py)
        self,
        store: PartStore,
        job: Job,
        inputs: Sequence[JobInput],
        loaded: LoadedModel,
        stop: StopToken,
        hinges_on: str,
    ) -> None:
        """`inputs` with the digests that were read. Raises DependencyError, RunStopped."""
        self._store = store
        self._job = job
        self._stop = stop
        self._origin = origin_of(job, inputs, loaded, hinges_on)
        self._kept: dict[str, ObjectRef] = patiently(lambda: store.kept(job.id, self._origin), stop)
        if self._kept:
            log.info("earlier attempts have kept parts", parts=len(self._kept), attempt=job.attempt)

    @property
    def found(self) -> bool:
        """Whether earlier attempts have kept any."""
        return bool(self._kept)

    def read(self, name: str) -> bytes | None:
        kept = self._kept.get(name)
        return patiently(lambda: self._store.read(kept), self._stop) if kept is not None else None

    def keep(self, name: str, content: bytes) -> None:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} cannot be the name of a part")
        self._stop.check()
        if not patiently(lambda: self._store.keep(self._job, self._origin, name, content), self._stop):
            raise RunStopped("another worker has taken the job over", code=StopReason.LEASE_LOST.value)


def origin_of(job: Job, inputs: Sequence[JobInput], loaded: LoadedModel, hinges_on: str) -> str:
    """The digest of everything that the parts of a job come of.

    The version of a model says little by itself: its files and its configuration may have been changed since, and
    another provider, or another ONNX Runtime, computes other last digits.
    """
    said = {
        "task": job.task,
        "params": job.params,
        "inputs": [_identified(item) for item in inputs],
        "model": [loaded.version.key, loaded.version.sha256, loaded.version.manifest.model_dump_json()],
        "shared": loaded.shared.digests(),
        "computed_by": [*(graph.session.provider for graph in loaded.graphs.values()), onnxruntime.__version__],
        "hinges_on": hinges_on,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _identified(item: JobInput) -> str:
    if item.object is None:
        return item.model_dump_json()
    return item.object.model_dump_json(include={"size", "sha256", "media_type", "name"})
