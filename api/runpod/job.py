"""A job as RunPod's clients read it.

queued -> IN_QUEUE   running, cancelling -> IN_PROGRESS   succeeded -> COMPLETED   failed -> FAILED
cancelled -> CANCELLED   expired -> TIMED_OUT, and unlike there it can still be looked at
"""

from typing import Any

from api.inference.answer import wrapped
from fleet.contracts import Job, JobState

STATUS = {
    JobState.QUEUED: "IN_QUEUE",
    JobState.RUNNING: "IN_PROGRESS",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
    JobState.EXPIRED: "TIMED_OUT",
}


def status_of(job: Job) -> str:
    return STATUS[job.state]


def brief(job: Job) -> dict[str, Any]:
    return {"id": str(job.id), "status": status_of(job)}


def job_object(job: Job, base_url: str) -> dict[str, Any]:
    """Times are milliseconds. A job that failed has its error in `output` too: RunPod's client shows nothing else."""
    told = brief(job)
    if job.started_at is not None:
        told["delayTime"] = _milliseconds((job.started_at - job.created_at).total_seconds())
    if job.started_at is not None and job.finished_at is not None:
        ran_s = sum(seconds for stage, seconds in job.timings.items() if stage != "queue")
        told["executionTime"] = _milliseconds(ran_s or (job.finished_at - job.started_at).total_seconds())
    if job.ran_on is not None:
        told["workerId"] = job.ran_on.worker
    if job.state in (JobState.SUCCEEDED, JobState.FAILED, JobState.EXPIRED):
        told["output"] = wrapped(job, base_url)
    if job.state in (JobState.FAILED, JobState.EXPIRED):
        told["error"] = f"{job.error.code}: {job.error.message}" if job.error is not None else job.state.value
    return told


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
