"""Which failed attempts cost a job nothing: those that were not its fault, as far as anybody can tell."""

from fleet.contracts import Job
from fleet.errors import FleetError, NoCapableWorker
from worker.engine.cuda_faults import GPU_LOST

#: A GPU may fail by itself, under whatever runs; more often than that it is the job.
_GPUS_FORGIVEN = 2


def goes_back(job: Job, error: FleetError) -> bool:
    """Whether the job is handed to another worker without losing an attempt."""
    if error.code == GPU_LOST:
        return sum(note.detail == GPU_LOST for note in job.history) < _GPUS_FORGIVEN
    return isinstance(error, NoCapableWorker)
