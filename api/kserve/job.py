"""Inference as a durable job: submit, wait for its end, read its result. Whoever hangs up loses nothing but the answer.

A small request costs two statements: the one that stores the job and the one that reads it when the bell rang.
"""

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from api.headers import idempotency_key, trace_context
from api.kserve.body import IN_MEMORY_BYTES, received
from api.kserve.bundle import as_input, bundled
from api.kserve.envelope import priority_of
from api.kserve.errors import deadline_exceeded, refusal, unsuccessful
from api.kserve.request import InferRequest, read_request
from api.kserve.response import answer, coding_wanted
from api.kserve.serving import Serving
from api.requests import JobRequest
from api.submission import Caller, Submission
from api.tickets import Tickets
from api.waiting import Waiters
from fleet.card import Card
from fleet.contracts import Job, JobState, PriorityName
from fleet.ids import new_id
from fleet.job_values import Submitted, fingerprint
from fleet.jobs import JobStore
from fleet.objects import ObjectStore
from fleet.tensors import TASK_NAME, TensorParams

#: Of a body besides MAX_BODY_BYTES of tensors: its JSON.
_ENVELOPE_BYTES = 1024 * 1024
#: Large bodies that are read at once, each with all that its JSON becomes in memory.
_LARGE_AT_ONCE = 2


@dataclass(frozen=True)
class _Accepted:
    asked: InferRequest
    submitted: Submitted


class Inference:
    """Used by one event loop."""

    def __init__(
        self,
        *,
        serving: Serving,
        submission: Submission,
        tickets: Tickets,
        jobs: JobStore,
        objects: ObjectStore,
        waiters: Waiters,
        max_body_bytes: int,
        max_wait_s: float,
    ) -> None:
        self._serving = serving
        self._submission = submission
        self._tickets = tickets
        self._jobs = jobs
        self._objects = objects
        self._waiters = waiters
        self._max_body_bytes = max_body_bytes + _ENVELOPE_BYTES
        self._max_wait_s = max_wait_s
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def infer(self, request: Request, tenant: str, model: str, version: str | None) -> Response:
        """Raises FleetError."""
        caller = Caller(tenant, idempotency_key(request.headers), trace_context(request.headers))
        body = await received(request, self._max_body_bytes)
        job_id = new_id()
        accept = partial(self._accepted, body, request.headers, caller, (model, version), job_id)
        # Listen before the job exists: it may end before the submit has returned.
        with self._waiters.listen(job_id) as bell:
            async with self._large if len(body) > IN_MEMORY_BYTES else nullcontext():
                accepted = await run_in_threadpool(accept)
            # The bytes are stored now: nothing holds them while the job runs.
            del accept, body
            asked, job, replayed = accepted.asked, accepted.submitted.job, accepted.submitted.replayed
            if not replayed:
                job = await bell.end_of(job, self._wait_s(asked))
        if replayed:
            with self._waiters.listen(job.id) as bell:
                job = await bell.end_of(job, self._wait_s(asked))
        headers = {"fleet-job-id": str(job.id), **({"idempotency-replayed": "true"} if replayed else {})}
        return await self._answered(asked, job, request.headers, headers)

    def _accepted(
        self, body: memoryview, headers: Headers, caller: Caller, named: tuple[str, str | None], job_id: UUID
    ) -> _Accepted:
        card = self._serving.card(*named)
        asked = read_request(body, headers, card)
        self._serving.check_available(card)
        bundle = bundled(asked.tensors)
        wanted = _wanted(asked, card)
        # What makes a repeat: the bytes, and not the upload that holds them.
        body_print = fingerprint({**wanted, "tensors": bundle.sha256})
        if caller.idempotency_key is not None:
            earlier = self._jobs.find_by_key(caller.tenant, caller.idempotency_key, body_print)
            if earlier is not None:
                return _Accepted(asked.without_tensors(), Submitted(earlier, replayed=True))
        with as_input(bundle, self._tickets, caller.tenant) as given:
            job = JobRequest(**wanted, inputs=[given])
            submitted = self._submission.submit(job, caller, job_id, body_print)
        return _Accepted(asked.without_tensors(), submitted)

    async def _answered(self, asked: InferRequest, job: Job, sent: Headers, headers: dict[str, str]) -> Response:
        if job.state is JobState.SUCCEEDED:
            coding = coding_wanted(sent)
            if coding is None and "artifact" not in (job.result or {}):
                return answer(asked, job, self._objects, None, headers)
            return await run_in_threadpool(answer, asked, job, self._objects, coding, headers)
        if job.state.ended:
            return unsuccessful(job, headers)
        if asked.timeout_s is not None and asked.timeout_s <= self._max_wait_s:
            return deadline_exceeded(f"job {job.id} had {asked.timeout_s:g} s", headers)
        detail = f"job {job.id} has not ended within {self._max_wait_s:g} s and goes on: see /api/v1/jobs/{job.id}"
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers)

    def _wait_s(self, asked: InferRequest) -> float:
        return self._max_wait_s if asked.timeout_s is None else min(asked.timeout_s, self._max_wait_s)


def _wanted(asked: InferRequest, card: Card) -> dict[str, Any]:
    """The job but for its input."""
    params = TensorParams(outputs=asked.choices if _chosen(asked, card) else [])
    return {
        "model": card.name,
        "version": card.version,
        "task": TASK_NAME,
        "params": params.model_dump(mode="json", exclude_defaults=True),
        "priority": asked.priority or _usual_priority(card),
        "deadline_s": asked.timeout_s,
        # Clients of this family wait in the request: one that nobody can run is told so at once.
        "when_no_worker": "refuse",
    }


def _chosen(asked: InferRequest, card: Card) -> bool:
    """Whether the answer is any other than all outputs in their order."""
    names = [output.name for output in asked.outputs]
    return names != [spec.name for spec in card.outputs] or any(output.classification for output in asked.outputs)


def _usual_priority(card: Card) -> PriorityName:
    """What the model's configuration says of requests that say nothing."""
    batching = card.config.get("dynamic_batching")
    level = batching.get("default_priority_level", 0) if isinstance(batching, Mapping) else 0
    return (priority_of(int(level)) if isinstance(level, int | str) else None) or PriorityName.NORMAL
