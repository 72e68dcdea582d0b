"""A job from the request to the record, and the ring of the doorbell.

check (card, params, inputs) -> route -> store -> publish. Once it is stored it is accepted: what fails after that is
repaired by the reconciler and never the caller's trouble.
"""

from dataclasses import dataclass, replace
from uuid import UUID

from api.callbacks import Callbacks
from api.cards import Cards
from api.inputs import Inputs
from api.measures import Measures
from api.requests import JobRequest
from fleet.broker import Broker, shadow_name
from fleet.contracts import Card, Job
from fleet.errors import DependencyError, ValidationFailed
from fleet.job_values import NewJob, Submitted, fingerprint
from fleet.jobs import JobStore
from fleet.logs import get_logger
from fleet.routing import route

log = get_logger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who submits, and what the headers say besides the body."""

    tenant: str
    idempotency_key: str | None = None
    trace_context: str | None = None


class Submission:
    def __init__(
        self,
        *,
        cards: Cards,
        inputs: Inputs,
        callbacks: Callbacks,
        jobs: JobStore,
        broker: Broker,
        measures: Measures,
        default_deadline_s: float,
        default_retention_s: float,
    ) -> None:
        self._cards = cards
        self._inputs = inputs
        self._callbacks = callbacks
        self._jobs = jobs
        self._broker = broker
        self._measures = measures
        self._default_deadline_s = default_deadline_s
        self._default_retention_s = default_retention_s

    def submit(self, request: JobRequest, caller: Caller, job_id: UUID) -> Submitted:
        """Raises FleetError; when it returns, the job is stored: one statement where the card is fresh.

        A repeat under the same key returns the first job, whatever became of its inputs since.
        """
        # Defaults are left out: a request that spells them out is the same request.
        body_print = fingerprint(request.model_dump(mode="json", exclude_defaults=True))
        if caller.idempotency_key is not None:
            earlier = self._jobs.find_by_key(caller.tenant, caller.idempotency_key, body_print)
            if earlier is not None:
                return Submitted(earlier, replayed=True)
        # Known to be away: not even tried, and the reconciler is the first to publish the job.
        resting = self._broker.resting
        new = replace(self._checked(request, caller, job_id, body_print), published=not resting)
        submitted = self._jobs.submit(new)
        if not submitted.replayed:
            self._measures.job_submitted(submitted.job.task, submitted.job.model)
            if resting:
                self._measures.publication_failed()
            else:
                self._publish(submitted.job)
        return submitted

    def retry(self, job_id: UUID, tenant: str, deadline_s: float | None) -> Job:
        """A job that ended without success, queued once more with all its attempts.

        Raises NotFound, Conflict `job-not-ended` or `job-succeeded`.
        """
        job = self._jobs.retry(job_id, tenant, deadline_s)
        self._publish(job)
        return job

    def _checked(self, request: JobRequest, caller: Caller, job_id: UUID, body_print: str) -> NewJob:
        checked = self._cards.get(request.model, request.version)
        card = checked.card
        _check_task(request.task, card)
        checked.check_params(request.params)
        callback = self._callbacks.checked(request.callback)
        resolved = self._inputs.resolve(request.inputs, caller.tenant, card)
        way = route(card, request.lane, self._cards.live_pools())
        return NewJob(
            id=job_id,
            tenant=caller.tenant,
            task=card.task,
            model=card.name,
            version=card.version,
            lane=way.lane,
            priority=request.priority.rank,
            pool=way.pool,
            route_reason=way.why,
            params=request.params,
            inputs=resolved.inputs,
            labels=request.labels,
            max_attempts=request.max_attempts or card.max_attempts,
            deadline_s=request.deadline_s or card.deadline_s or self._default_deadline_s,
            execution_timeout_s=request.execution_timeout_s or card.execution_timeout_s,
            retention_s=request.retention_s or self._default_retention_s,
            uploads=resolved.uploads,
            source_jobs=resolved.jobs,
            callback=callback,
            trace_context=caller.trace_context,
            idempotency_key=caller.idempotency_key,
            fingerprint=body_print,
        )

    def _publish(self, job: Job) -> None:
        try:
            self._broker.publish(job.id, job.publish_seq, job.queue, shadow_name(job.task, job.model))
        except DependencyError as error:
            self._measures.publication_failed()
            log.warning("job stored, broker not told", job_id=str(job.id), queue=job.queue, error=error.code)
            self._leave_to_reconciler(job)

    def _leave_to_reconciler(self, job: Job) -> None:
        try:
            self._jobs.publication_failed(job)
        except DependencyError as error:
            # Then the reconciler finds out by itself, only later: the job waits and its message is nowhere.
            log.warning("job not marked as unpublished", job_id=str(job.id), error=error.code)


def _check_task(task: str | None, card: Card) -> None:
    if task is not None and task != card.task:
        message = f"the model {card.name!r} does {card.task!r}, not {task!r}: leave `task` out or name that one"
        raise ValidationFailed(message, [{"detail": message, "pointer": "#/task"}], code="task-mismatch")
