"""The bodies of webhooks: Fleet's own event, or the job as receivers of a dialect read it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from api.runpod.job import job_object
from api.webhook_event import MEDIA_TYPE, event_body
from fleet.contracts import Job, JobError, JobState
from fleet.webhook_values import CallbackBody, Delivery

#: A job's id and tenant -> the job. Raises NotFound.
JobOf = Callable[[UUID, str], Job]


class WebhookBodies:
    """Thread-safe."""

    def __init__(self, job_of: JobOf, public_url: str | None) -> None:
        self._job_of = job_of
        self._public_url = public_url

    def of(self, delivery: Delivery) -> tuple[str, bytes]:
        """-> media type and bytes. Raises NotFound, DependencyError."""
        if delivery.body is CallbackBody.RUNPOD:
            job = as_told(self._job_of(delivery.job_id, delivery.tenant), delivery.data)
            return "application/json", orjson.dumps(job_object(job, (self._public_url or "").rstrip("/")))
        return MEDIA_TYPE, event_body(delivery, self._public_url)


def as_told(job: Job, told: dict[str, Any]) -> Job:
    """The job at the moment of its event.

    One that succeeded never changes; of one that went on since, what it took and where it ran is not known any more.
    """
    then = {
        "state": JobState(told["state"]),
        "attempt": told["attempt"],
        "error": JobError.model_validate(told["error"]) if told["error"] is not None else None,
        **{name: told[name] and datetime.fromisoformat(told[name]) for name in ("started_at", "finished_at")},
    }
    if all(getattr(job, name) == value for name, value in then.items()):
        return job
    return job.model_copy(update={**then, "result": None, "artifacts": [], "timings": {}, "ran_on": None})
