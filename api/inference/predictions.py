"""Requests for inference on their way to a durable job and back. The dialects differ in codec and wait alone.

    request -> model (brought in, where it is not here) -> params and inputs by its card -> job -> its end

Whoever hangs up loses nothing but the answer: the job goes on, and is found by its id.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool

from api.cards import Cards
from api.inference.bringing import Bringing, Named
from api.inference.params import QUESTIONS, params_of, question_of
from api.inference.picture_jobs import PictureJobs, Wanted
from api.inference.picture_sizes import PictureSizes
from api.inference.pointers import respelled
from api.inference.request import InferenceRequest, image_missing, pictures
from api.inference.shared_pictures import Shareable, SharedPictures, shareable
from api.inference.tasks import check_task
from api.inputs import check_count
from api.job_errors import error_of
from api.job_items import JobItems
from api.joining import Joining
from api.measures import Measures
from api.model_house import ModelHouse
from api.requests import JobRequest
from api.submission import Caller, Submission
from api.waiting import Waiters
from fleet.card import Card
from fleet.contracts import Job
from fleet.database import Database
from fleet.errors import FleetError, ValidationFailed
from fleet.job_values import Submitted, fingerprint
from fleet.jobs import JobStore
from fleet.objects import ObjectStore
from fleet.parts import PartStore

#: Seconds in which a request is in the record, however long the jobs that it waited for take.
_STORED_WITHIN_S = 1.0


@dataclass(frozen=True)
class Call:
    """One request; `more` are further fields of its job, as JSON, see `api.requests.JobRequest`."""

    asked: InferenceRequest
    caller: Caller
    #: Seconds, for the model, if it has to be brought in first, and for the job's end.
    patience_s: float
    when_no_worker: Literal["wait", "refuse"] = "wait"
    more: Mapping[str, Any] = field(default_factory=dict)
    #: Whether its job may be one that several requests share.
    shared: bool = False

    @property
    def may_share(self) -> bool:
        return self.shared and self.caller.idempotency_key is None and self.patience_s > _STORED_WITHIN_S

    @property
    def body_print(self) -> str:
        """What makes another request a repeat of this one: what was asked for, whatever it led to."""
        return fingerprint({**self.more, "asked": self.asked.model_dump(mode="json", exclude_defaults=True)})


class Predictions:
    """Used by one event loop."""

    def __init__(
        self,
        bringing: Bringing,
        cards: Cards,
        jobs: JobStore,
        picture_jobs: PictureJobs,
        items: JobItems,
        *,
        measures: Measures,
    ) -> None:
        self._bringing = bringing
        self._cards = cards
        self._jobs = jobs
        self._picture_jobs = picture_jobs
        self._joining = Joining(
            SharedPictures(self._waited, items, PictureSizes()),
            longest_wait_s=_STORED_WITHIN_S,
            joined=partial(measures.requests_joined, "pictures"),
        )

    async def run(self, call: Call, *, wait: bool = True) -> Submitted:
        """The job when it has ended, or as it is when patience is over; without `wait`, once it is stored.

        Of a job that several calls share, each gets his own part of it, as if it were a job by itself.

        Raises FleetError whose pointers lead into the request as it was written.
        """
        ends_at = asyncio.get_running_loop().time() + call.patience_s
        pictures(call.asked)
        body_print, submitted = "", None
        if call.caller.idempotency_key is not None:
            body_print = await run_in_threadpool(lambda: call.body_print)
            submitted = await run_in_threadpool(self._earlier, call, body_print, call.caller.idempotency_key)
        if submitted is not None:
            return await self._picture_jobs.end_of(submitted, ends_at) if wait else submitted
        named = await self._bringing.named(call.asked, call.caller.tenant, call.patience_s)
        if wait and call.may_share and not named.brought:
            found = await run_in_threadpool(self._shareable, call, named, ends_at)
            if isinstance(found, Shareable):
                return Submitted(await self._joining.run(found), replayed=False)
            return await self._picture_jobs.run(lambda: found, ends_at)
        return await self._picture_jobs.run(lambda: self._wanted(call, named, body_print)[0], ends_at if wait else None)

    async def _waited(self, wanted: Wanted, ends_at: float) -> Job:
        return (await self._picture_jobs.run(lambda: wanted, ends_at)).job

    def _earlier(self, call: Call, body_print: str, key: str) -> Submitted | None:
        earlier = self._jobs.find_by_key(call.caller.tenant, key, body_print)
        return None if earlier is None else Submitted(earlier, replayed=True)

    def _shareable(self, call: Call, named: Named, ends_at: float) -> Shareable | Wanted:
        wanted, card = self._wanted(call, named)
        try:
            return shareable(wanted, ends_at, card, self._cards.members()) or wanted
        except FleetError as error:
            raise respelled(error, wanted.pointers) from error

    def _wanted(self, call: Call, named: Named, body_print: str = "") -> tuple[Wanted, Card]:
        asked = call.asked
        given = pictures(asked)
        pointers, question = [one.pointer for one in given], None
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
        except FleetError as error:
            raise respelled(error, pointers, question=question) from error
        return Wanted(request, call.caller, pointers, question, body_print), card


def build_predictions(
    database: Database,
    objects: ObjectStore,
    house: ModelHouse,
    cards: Cards,
    *,
    jobs: JobStore,
    submission: Submission,
    waiters: Waiters,
    measures: Measures,
) -> Predictions:
    return Predictions(
        Bringing(house),
        cards,
        jobs,
        PictureJobs(submission, waiters),
        JobItems(PartStore(database, objects), objects),
        measures=measures,
    )


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
