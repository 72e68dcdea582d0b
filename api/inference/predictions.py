"""Requests for inference on their way to a durable job and back. The dialects differ in codec and wait alone.

    request -> model (brought in, where it is not here) -> params and inputs by its card -> job -> its end

Whoever hangs up loses nothing but the answer: the job goes on, and is found by its id.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from api.cards import Cards
from api.inference.bringing import Bringing, Named
from api.inference.params import QUESTIONS, params_of, question_of
from api.inference.pointers import respelled
from api.inference.request import InferenceRequest, image_missing, pictures
from api.inference.tasks import check_task
from api.inputs import check_count
from api.job_errors import error_of
from api.requests import JobRequest
from api.submission import Caller, Submission
from api.waiting import Waiters
from fleet.card import Card
from fleet.contracts import Job
from fleet.errors import FleetError, ValidationFailed
from fleet.ids import new_id
from fleet.job_values import Submitted, fingerprint
from fleet.jobs import JobStore


@dataclass(frozen=True)
class Call:
    """One request; `more` are further fields of its job, as JSON, see `api.requests.JobRequest`."""

    asked: InferenceRequest
    caller: Caller
    #: Seconds, for the model, if it has to be brought in first, and for the job's end.
    patience_s: float
    when_no_worker: Literal["wait", "refuse"] = "wait"
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def body_print(self) -> str:
        """What makes another request a repeat of this one: what was asked for, whatever it led to."""
        return fingerprint({**self.more, "asked": self.asked.model_dump(mode="json", exclude_defaults=True)})


class Predictions:
    """Used by one event loop."""

    def __init__(
        self, *, bringing: Bringing, cards: Cards, jobs: JobStore, submission: Submission, waiters: Waiters
    ) -> None:
        self._bringing = bringing
        self._cards = cards
        self._jobs = jobs
        self._submission = submission
        self._waiters = waiters

    async def run(self, call: Call, *, wait: bool = True) -> Submitted:
        """The job when it has ended, or as it is when patience is over; without `wait`, once it is stored.

        Raises FleetError whose pointers lead into the request as it was written.
        """
        clock = asyncio.get_running_loop().time
        ends_at = clock() + call.patience_s
        pictures(call.asked)
        body_print, submitted = "", None
        if call.caller.idempotency_key is not None:
            body_print = await run_in_threadpool(lambda: call.body_print)
            submitted = await run_in_threadpool(self._earlier, call, body_print, call.caller.idempotency_key)
        if submitted is None:
            named = await self._bringing.named(call.asked, call.caller.tenant, call.patience_s)
            job_id = new_id()
            # Listen before the job exists: it may end before the submit has returned.
            with self._waiters.listen(job_id) as bell:
                submitted = await run_in_threadpool(self._stored, call, named, job_id, body_print)
                if wait and not submitted.replayed:
                    ended = await bell.end_of(submitted.job, max(0.0, ends_at - clock()))
                    return Submitted(ended, replayed=False)
        if wait:
            with self._waiters.listen(submitted.job.id) as bell:
                ended = await bell.end_of(submitted.job, max(0.0, ends_at - clock()))
                return Submitted(ended, submitted.replayed)
        return submitted

    def _earlier(self, call: Call, body_print: str, key: str) -> Submitted | None:
        earlier = self._jobs.find_by_key(call.caller.tenant, key, body_print)
        return None if earlier is None else Submitted(earlier, replayed=True)

    def _stored(self, call: Call, named: Named, job_id: UUID, body_print: str) -> Submitted:
        asked = call.asked
        given = pictures(asked)
        question = None
        try:
            card = self._cards.get(named.reference, named.version).card
            check_task(asked.task, asked.model_type, card)
            question = question_of(card) if asked.prompt is not None else None
            params = params_of(asked, card, named_by_import=named.brought)
            if not given:
                _check_needless(card)
            request = JobRequest(
                model=card.name,
                version=card.version,
                inputs=[one.request for one in given],
                params=params,
                # Of a model that has just come in, workers know a moment later.
                when_no_worker="wait" if named.brought else call.when_no_worker,
                **call.more,
            )
            return self._submission.submit(request, call.caller, job_id, body_print)
        except FleetError as error:
            raise respelled(error, [one.pointer for one in given], question=question) from error


def failure(asked: InferenceRequest, job: Job) -> FleetError:
    """What a job that ended without success raises, in the words of its request; `facts` have its id."""
    question = next((name for name in QUESTIONS if name in job.params), None) if asked.prompt is not None else None
    return respelled(error_of(job), [one.pointer for one in pictures(asked)], question=question)


def _check_needless(card: Card) -> None:
    """Raises ValidationFailed `image-missing` for a model that cannot do without a picture."""
    try:
        check_count(0, card, card.task)
    except ValidationFailed:
        raise image_missing() from None
