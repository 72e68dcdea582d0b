"""Embeddings as requests that wait ask for them: texts in, vectors out, and durable jobs in between.

few texts  -> with those of others that come at the same time, one job        (embedding_joining)
many texts -> parts that run on several workers, and come back in order       (embedding_sizes)
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from api.cards import Cards
from api.embedding_input import storable
from api.embedding_jobs import Answer, EmbeddingJobs, Wanted
from api.embedding_joining import Joining
from api.embedding_sizes import Sizes, cut, size_of
from api.measures import Measures
from api.submission import Caller
from fleet.contracts import PriorityName
from fleet.embeddings import EmbeddingParams, JobParams, Part, Texts, fault

#: Of a request that shares a job with others.
_SMALL_TEXTS, _SMALL_TOKENS = 16, 1024
#: Parts of one request that are queued or run at once: the rest of the queue is for others.
_PARTS_AT_ONCE = 8


@dataclass(frozen=True)
class EmbeddingCall:
    """Texts of one request, parsed; `model` is a reference: `name`, `name@alias` or `name@3`."""

    model: str
    texts: Texts
    params: EmbeddingParams
    caller: Caller
    priority: PriorityName
    timeout_s: float


@dataclass(frozen=True)
class Embedded:
    """The answer to a call."""

    model: str
    version: int
    count: int
    dimensions: int
    #: That were fed, special ones included; of each text, where they are known.
    total_tokens: int
    tokens: list[int] | None
    #: float32, little-endian, row by row, in the order of the texts.
    vectors: memoryview
    jobs: list[UUID]


class EmbeddingCalls:
    """Used by one event loop."""

    def __init__(self, jobs: EmbeddingJobs, cards: Cards, measures: Measures) -> None:
        self._jobs = jobs
        self._cards = cards
        self._sizes = Sizes()
        self._joining = Joining(self._run, self._sizes, partial(measures.requests_joined, "embeddings"))

    async def embed(self, call: EmbeddingCall) -> Embedded:
        """Whoever is cancelled while he waits here cancels the jobs of the call: see `api.presence`.

        A request with an idempotency key is one job, which the key stands for.

        Raises FleetError with the code of the job that failed: ValidationFailed for what is wrong with a text, with
        its number as `facts["item"]`; RunStopped `expired` when `timeout_s` is over.
        """
        params = JobParams(**dict(call.params))
        wanted = Wanted(call.model, call.texts, params, call.caller, call.priority, call.timeout_s)
        if call.caller.idempotency_key is None and len(call.texts) <= _SMALL_TEXTS and storable(call.texts):
            tokens = sum(size_of(text).tokens for text in call.texts)
            if tokens <= _SMALL_TOKENS:
                return _embedded([await self._joining.run(wanted, tokens)])
        # In a thread: who waits for something else is not to wait for a look at thousands of texts.
        parts = await run_in_threadpool(self._parts, wanted)
        if len(parts) == 1:
            return _embedded([await self._run(wanted)])
        return _embedded(await self._in_parts(wanted, parts))

    def _parts(self, wanted: Wanted) -> list[range]:
        if wanted.caller.idempotency_key is not None or not storable(wanted.texts):
            return [range(len(wanted.texts))]
        return cut([size_of(text) for text in wanted.texts], self._sizes.part_tokens(wanted.model))

    async def _run(self, wanted: Wanted) -> Answer:
        answer = await self._jobs.run(wanted)
        self._sizes.learn(wanted.model, answer.job, answer.result)
        return answer

    async def _in_parts(self, wanted: Wanted, parts: Sequence[range]) -> list[Answer]:
        """The first part that fails ends the others, too. All together have no more tokens than the model takes."""
        card = (await run_in_threadpool(self._cards.get, wanted.model, None)).card
        ends_at = asyncio.get_running_loop().time() + wanted.timeout_s
        places = asyncio.Semaphore(_PARTS_AT_ONCE)
        tokens = 0

        async def one(part: range) -> Answer:
            async with places:
                left_s = ends_at - asyncio.get_running_loop().time()
                answer = await self._run(_part_of(wanted, part, card.version, max(left_s, 0.0)))
            nonlocal tokens
            tokens += answer.result.total_tokens
            most = answer.result.most_tokens
            if most is not None and tokens > most:
                raise fault(
                    f"the request has more than {most:,} tokens, which is what the model takes at once: send fewer "
                    "texts, or JSON lines as the input of a job",
                    code="too-many-tokens",
                    where="#/input",
                    most=most,
                )
            return answer

        tasks = [asyncio.create_task(one(part)) for part in parts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _part_of(wanted: Wanted, part: range, version: int, timeout_s: float) -> Wanted:
    """All parts are of one version, whatever a name means a moment later."""
    place = Part(number_from=part.start, of=len(wanted.texts))
    return Wanted(
        # Of `name@alias` only the name: the version says the rest.
        wanted.model.partition("@")[0],
        wanted.texts[part.start : part.stop],
        wanted.params.model_copy(update={"part": place}),
        wanted.caller,
        wanted.priority,
        timeout_s,
        version,
    )


def _embedded(answers: Sequence[Answer]) -> Embedded:
    first, several = answers[0], len(answers) > 1
    tokens: list[int] | None = []
    for answer in answers:
        own = answer.result.tokens
        tokens = None if tokens is None or own is None else tokens + own
    return Embedded(
        model=first.job.model,
        version=first.job.version,
        count=sum(answer.result.count for answer in answers),
        dimensions=first.result.dimensions,
        total_tokens=sum(answer.result.total_tokens for answer in answers),
        tokens=tokens,
        vectors=memoryview(b"".join(answer.vectors for answer in answers)) if several else first.vectors,
        jobs=[answer.job.id for answer in answers],
    )
