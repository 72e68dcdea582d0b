"""A job of the record as a reader finds it, without a record."""

from datetime import UTC, datetime

from fleet.contracts import Job, JobState, Lane, Pool, Priority
from fleet.ids import new_id


def ended(infer_s: float) -> Job:
    """A text embedding that succeeded, after so many seconds in its model."""
    return Job(
        id=new_id(),
        tenant="default",
        task="text-embedding",
        model="model",
        version=1,
        lane=Lane.INTERACTIVE,
        priority=Priority.NORMAL,
        pool=Pool.CPU,
        queue="cpu.interactive.normal",
        state=JobState.SUCCEEDED,
        timings={"queue": 9.0, "infer": infer_s},
        created_at=datetime.now(UTC),
    )
