"""Several requests in one job: what is wrong with the texts of one of them is told to that one alone."""

from collections.abc import Callable, Sequence

from fleet.contracts import JobError
from fleet.embeddings import Refusal, Texts, fault
from fleet.errors import ValidationFailed
from worker.text.tokens import Tokens


def tokenized_each(
    texts: Texts, counts: Sequence[int], tokenize: Callable[[Texts], Tokens]
) -> tuple[Tokens, list[Refusal] | None]:
    """The tokens of all requests that are sound, and the others; `counts` has the number of texts of each request.

    `tokenize` numbers the texts that it is given from 0. Raises ValidationFailed `joined-mismatch`.
    """
    if sum(counts) != len(texts):
        raise fault(
            f"the joined requests have {sum(counts)} texts, and {len(texts)} are given",
            code="joined-mismatch",
            where="#/params/joined",
        )
    try:
        return tokenize(texts), None
    except ValidationFailed:
        return _one_by_one(texts, counts, tokenize)


def _one_by_one(
    texts: Texts, counts: Sequence[int], tokenize: Callable[[Texts], Tokens]
) -> tuple[Tokens, list[Refusal]]:
    sound, refused, at = Tokens([], 0), [], 0
    for number, count in enumerate(counts):
        try:
            own = tokenize(texts[at : at + count])
        except ValidationFailed as error:
            refused.append(Refusal(request=number, error=JobError.model_validate(error.as_dict())))
        else:
            sound = Tokens(sound.ids + own.ids, sound.truncated + own.truncated)
        at += count
    return sound, refused
