"""What a planned job sends, and what must come back: both follow from its seed."""

import base64
from typing import Any

from soak.plan import JobKind, PlannedJob
from tests.support.threshold_model import MODEL, WINDOWED, nrrd_of, random_volume
from worker.contract import Array

_SHORT_SIDE, _LONG_SIDE = 18, 96
_REPEATS = 900_000


def volume(job: PlannedJob) -> Array:
    return random_volume(job.seed, _LONG_SIDE if job.kind is JobKind.LONG_MASK else _SHORT_SIDE)


def file_of(job: PlannedJob) -> bytes | None:
    """The input file, or None for a model that takes none."""
    match job.kind:
        case JobKind.MASK | JobKind.LONG_MASK:
            return nrrd_of(volume(job))
        case JobKind.BROKEN:
            # Alternately no volume at all, and one whose voxels end half way.
            return b"this is no volume" if job.seed % 2 else nrrd_of(volume(job))[:3000]
    return None


def values(job: PlannedJob) -> list[float]:
    return [float(job.number), float(job.seed), 0.5]


def request_of(job: PlannedJob, sent: dict[str, Any] | None) -> dict[str, Any]:
    """The body of the submit; `sent` is its input."""
    params: dict[str, Any] = {}
    match job.kind:
        case JobKind.ECHO | JobKind.LONG_ECHO:
            model = "echo"
            params = {"values": values(job), "repeat": _REPEATS if job.kind.long else 1 + job.seed % 200}
        case JobKind.LONG_MASK:
            model, params = WINDOWED, {"overlap": 0.9, "preview": False}
        case JobKind.MASK | JobKind.BROKEN:
            model, params = MODEL, {"preview": job.seed % 3 == 0}
    body: dict[str, Any] = {
        "model": model,
        "inputs": [sent] if sent is not None else [],
        "params": params,
        "priority": job.priority,
        "labels": {"soak": job.key},
    }
    if job.deadline_s is not None:
        body["deadline_s"] = job.deadline_s
    if job.kind.long:
        # Ten seconds among faults every ten: the usual three attempts would judge the soak and not the fleet.
        body["max_attempts"] = 10
    return body


def inline(data: bytes) -> dict[str, Any]:
    return {"data": base64.b64encode(data).decode(), "name": "volume.nrrd"}


def fits_request(job: PlannedJob, data: bytes) -> bool:
    return not job.uploaded and len(data) <= 64 * 1024
