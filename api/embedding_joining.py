"""Small requests for embeddings that come at the same time share a job, as `api/joining.py` tells."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from api import joining
from api.embedding_errors import error_of_refusal, not_in_time
from api.embedding_jobs import Answer, Wanted
from api.embedding_sizes import Sizes
from fleet.embeddings import EmbeddingResult
from fleet.errors import FleetError, ModelError

#: Jobs of one kind under way before requests wait for each other: while one runs, the next is under way to the worker.
_AT_ONCE = 2
_MOST_TOKENS = 4096
#: Of failed jobs: what need not happen to each of their requests.
_MAYBE_ALONE = frozenset({"worker-lost", "too-many-texts", "too-many-tokens"})


@dataclass(frozen=True)
class _Sized:
    wanted: Wanted
    tokens: int


class Joining:
    """Used by one event loop."""

    def __init__(
        self,
        run: Callable[[Wanted], Awaitable[Answer]],
        sizes: Sizes,
        joined: Callable[[int], None] = lambda count: None,
    ) -> None:
        """joined: told of how many requests each job is made."""
        self._joining = joining.Joining(_Sharing(run, sizes), joined=joined)

    async def run(self, wanted: Wanted, tokens: int) -> Answer:
        """The request's own vectors. Whoever is cancelled while he waits leaves his job, and the last one cancels it.

        Raises as `EmbeddingJobs.run`.
        """
        try:
            async with asyncio.timeout(wanted.timeout_s):
                return await self._joining.run(_Sized(wanted, tokens))
        except TimeoutError:
            raise not_in_time(f"the request has not been answered within {wanted.timeout_s:g} s") from None


class _Sharing:
    """What `api.joining.Sharing` says, of embeddings."""

    def __init__(self, run: Callable[[Wanted], Awaitable[Answer]], sizes: Sizes) -> None:
        self._run = run
        self._sizes = sizes

    def key(self, sized: _Sized) -> object:
        wanted = sized.wanted
        return (wanted.model, wanted.params, wanted.caller.tenant, wanted.priority, type(wanted.texts[0]))

    def at_once(self, sized: _Sized) -> int:
        return _AT_ONCE

    def fitting(self, waiting: Iterable[_Sized]) -> int:
        fitting = texts = tokens = 0
        for sized in waiting:
            texts += len(sized.wanted.texts)
            tokens += sized.tokens
            if fitting and (texts > self._sizes.most_joined(sized.wanted.model) or tokens > _MOST_TOKENS):
                break
            fitting += 1
        return fitting

    async def alone(self, sized: _Sized) -> Answer:
        return await self._run(sized.wanted)

    async def together(self, members: Sequence[_Sized]) -> Sequence[Answer | FleetError] | None:
        wanted = [sized.wanted for sized in members]
        try:
            answer = await self._run(_joined(wanted))
            return _parted(answer, [len(each.texts) for each in wanted])
        except FleetError as error:
            self._sizes.learn_refused(wanted[0].model, error)
            if isinstance(error, ModelError) or error.code in _MAYBE_ALONE:
                return None
            return [copy.copy(error) for _ in wanted]


def _joined(wanted: list[Wanted]) -> Wanted:
    texts: list[Any] = [text for each in wanted for text in each.texts]
    params = wanted[0].params.model_copy(update={"joined": [len(each.texts) for each in wanted]})
    return replace(wanted[0], texts=texts, params=params, timeout_s=max(each.timeout_s for each in wanted))


def _parted(answer: Answer, counts: list[int]) -> list[Answer | FleetError]:
    """Each request's own. Raises ModelError `result-unreadable` when the result is not that of so many texts."""
    result, at = answer.result, 0
    refused = {refusal.request: refusal.error for refusal in result.refused or ()}
    expected = sum(count for number, count in enumerate(counts) if number not in refused)
    if result.count != expected or result.tokens is None or len(result.tokens) != expected:
        raise ModelError(f"{result.count} vectors are not those of {expected} texts", code="result-unreadable")
    own: list[Answer | FleetError] = []
    for number, count in enumerate(counts):
        if number in refused:
            own.append(error_of_refusal(refused[number]))
            continue
        tokens = result.tokens[at : at + count]
        part: EmbeddingResult = result.model_copy(
            update={"count": count, "tokens": tokens, "total_tokens": sum(tokens), "refused": None}
        )
        own.append(Answer(answer.job, part, answer.vectors[at * result.row_bytes : (at + count) * result.row_bytes]))
        at += count
    return own
