"""A job from the request to the record, and the ring of the doorbell.

check (card, params, limits, inputs) -> route -> store -> publish. Once it is stored it is accepted: what fails after
that is repaired by the leader and never the caller's trouble. A job whose tenant has as many in the queue as its share
allows is stored without being published: the leader's dispatcher does that when its turn has come.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from api.callbacks import Callbacks
from api.cards import Cards
from api.inputs import Inputs
from api.ledger import Ledger
from api.limits import Limits
from api.measures import Measures
from api.problems import pointer
from api.requests import JobRequest
from api.traffic import TrafficReader
from fleet import tensors
from fleet.broker import Broker, shadow_name
from fleet.card import Card
from fleet.contracts import DevicePolicy, Job, JobInput, Lane, Pool
from fleet.errors import DependencyError, LaneFull, NoCapableWorker, ValidationFailed
from fleet.job_values import NewJob, Submitted, fingerprint
from fleet.jobs import JobStore
from fleet.logs import get_logger
from fleet.queues import queue_name
from fleet.routing import Fleet, Route, capable, route
from fleet.service_times import ServiceTimes

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
        limits: Limits,
        ledger: Ledger,
        traffic: TrafficReader,
        service_times: ServiceTimes,
        measures: Measures,
        held: Callable[[], None],
        default_deadline_s: float,
        default_retention_s: float,
    ) -> None:
        """`held` is rung when a job waits for its tenant's turn."""
        self._cards = cards
        self._inputs = inputs
        self._callbacks = callbacks
        self._jobs = jobs
        self._broker = broker
        self._limits = limits
        self._ledger = ledger
        self._traffic = traffic
        self._service_times = service_times
        self._measures = measures
        self._held = held
        self._default_deadline_s = default_deadline_s
        self._default_retention_s = default_retention_s

    def submit(
        self,
        request: JobRequest,
        caller: Caller,
        job_id: UUID,
        body_print: str | None = None,
        *,
        awaited: bool = False,
    ) -> Submitted:
        """Raises FleetError; when it returns, the job is stored: one statement where the card is fresh.

        `awaited`: the caller is told of the job's end alone; it is on the disk before it runs, and not before this
        returns (decision 0017).

        A repeat under the same key returns the first job, whatever became of its inputs since. What makes a request a
        repeat is `body_print`, by default the whole of it.
        """
        if caller.idempotency_key is None:
            # It is stored with the key, and of no use without one.
            body_print = ""
        else:
            # Defaults are left out: a request that spells them out is the same request.
            body_print = body_print or fingerprint(request.model_dump(mode="json", exclude_defaults=True))
            earlier = self._jobs.find_by_key(caller.tenant, caller.idempotency_key, body_print)
            if earlier is not None:
                return Submitted(earlier, replayed=True)
        try:
            submitted = self._stored(request, caller, job_id, body_print, awaited=awaited)
        except (LaneFull, NoCapableWorker) as error:
            self._measures.job_refused(error.code)
            raise
        if not submitted.replayed:
            self._measures.job_submitted(submitted.job.task, submitted.job.model)
        return submitted

    def retry(self, job_id: UUID, tenant: str, deadline_s: float | None) -> Job:
        """A job that ended without success, queued once more with all its attempts.

        Raises NotFound, Conflict `job-not-ended` or `job-succeeded`.
        """
        job = self._jobs.retry(job_id, tenant, deadline_s)
        self._publish(job)
        return job

    def _stored(
        self, request: JobRequest, caller: Caller, job_id: UUID, body_print: str, *, awaited: bool
    ) -> Submitted:
        checked = self._cards.get(request.model, request.version)
        card = checked.card
        checked.check_served()
        task = _task(request.task, card)
        if task == card.task:
            checked.check_params(request.params)
        else:
            _check_tensor_params(request.params)
        callback = self._callbacks.checked(request.callback)
        lane = request.lane or card.lane
        seen = self._traffic.now()
        fleet = Fleet(self._cards.members(), seen.loads if seen is not None else {})
        if request.when_no_worker == "refuse":
            _check_workers(fleet, card, lane)
        with self._limits.admitted(lane, caller.tenant):
            resolved = self._inputs.resolve(request.inputs, caller.tenant, card, task)
            way = self._route(fleet, card, lane, request, resolved.inputs)
            new = NewJob(
                id=job_id,
                tenant=caller.tenant,
                task=task,
                model=card.name,
                version=card.version,
                lane=way.lane,
                priority=request.priority.rank,
                pool=way.pool,
                device_policy=card.device,
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
                kept=resolved.kept,
                callback=callback,
                trace_context=caller.trace_context,
                idempotency_key=caller.idempotency_key,
                fingerprint=body_print,
                awaited=awaited,
            )
            return self._published(new)

    def _route(self, fleet: Fleet, card: Card, lane: Lane, request: JobRequest, inputs: list[JobInput]) -> Route:
        takes_s = None
        if card.device is DevicePolicy.ANY:
            costs, size = self._service_times.model(), sum(item.size for item in inputs)
            takes_s = {
                pool: costs.estimate(card, size, pool, {member.kind for member in fleet.serving(pool, lane)}).mean_s
                for pool in Pool
            }
        model = f"{card.name}/{card.version}"
        return route(card.device, lane, request.priority.rank, fleet, takes_s, model=model)

    def _published(self, new: NewJob) -> Submitted:
        """Stores it, and publishes it if its tenant has room in the queue."""
        # Known to be away: not even tried, and the leader is the first to publish the job.
        if self._broker.resting:
            submitted = self._jobs.submit(replace(new, published=False))
            self._measures.publication_failed()
            return submitted
        queue = queue_name(new.pool, new.lane, new.priority, new.device_policy)
        window = self._ledger.window(queue, new.tenant)
        submitted = self._jobs.submit(replace(new, window=window))
        if window is not None and submitted.published is not None:
            self._ledger.counted(queue, new.tenant, submitted.published, window, held=submitted.held)
        if submitted.held:
            self._held()
        elif not submitted.replayed:
            self._publish(submitted.job)
        return submitted

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


def _check_workers(fleet: Fleet, card: Card, lane: Lane) -> None:
    """Raises NoCapableWorker."""
    model = f"{card.name}/{card.version}"
    if not capable(fleet, card.device, lane, model):
        alive = {pool.value: len(fleet.serving(pool, lane)) for pool in Pool}
        raise NoCapableWorker(
            f"no worker that lives can run {model} ({card.device.value}) in the {lane.value} lane: "
            'start one, or submit with "when_no_worker": "wait"',
            model=model,
            device=card.device.value,
            lane=lane.value,
            alive=alive,
        )


def _task(asked: str | None, card: Card) -> str:
    """What is done with the model: its own task, or its graph run on the tensors that are given."""
    if asked in (None, card.task):
        return card.task
    if asked == tensors.TASK_NAME and card.inputs:
        return tensors.TASK_NAME
    also = f" or {tensors.TASK_NAME!r}" if card.inputs else ""
    message = f"the model {card.name!r} does {card.task!r}{also}, not {asked!r}: leave `task` out or name that one"
    raise ValidationFailed(message, [{"detail": message, "pointer": "#/task"}], code="task-mismatch")


def _check_tensor_params(params: dict[str, Any]) -> None:
    """Raises ValidationFailed."""
    try:
        tensors.TensorParams.model_validate(params)
    except ValidationError as error:
        faults = [{"detail": fault["msg"], "pointer": pointer(["params", *fault["loc"]])} for fault in error.errors()]
        told = "; ".join(f"{fault['pointer']}: {fault['detail']}" for fault in faults[:3])
        raise ValidationFailed(f"the params do not fit the task {tensors.TASK_NAME!r}: {told}", faults) from error
