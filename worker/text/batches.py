"""Which texts run together: those of about the same length, so that little is computed on what only fills up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from worker.contract import Array

#: A text beside one of L tokens has at least 3/4 of them, or at most 8 fewer: else a run of its own is cheaper.
_LEAST_SHARE = 0.75
_SLACK_TOKENS = 8


@dataclass(frozen=True)
class Chunk:
    """Texts of one run, by their place in the request, filled up to `length` tokens."""

    places: list[int]
    length: int
    #: Rows that a run of this length has at most, with those of other requests.
    most_rows: int

    @property
    def tokens(self) -> int:
        return len(self.places) * self.length


def bucket_length(tokens: int, most: int) -> int:
    """The length to fill up to, so that requests of about the same length can share a run."""
    step = 4 if tokens <= 32 else 8 if tokens <= 64 else 16 if tokens <= 256 else 64
    return max(tokens, min(-(-tokens // step) * step, most))


def chunks(
    lengths: Sequence[int], *, run_tokens: int, max_rows: int, max_tokens: int, fixed: int | None = None
) -> Iterator[Chunk]:
    """All texts, longest first, in runs of at most `run_tokens` tokens and `max_rows` texts.

    A run that is full is filled up to its own longest text; one that others may join, to its bucket's length. `fixed`
    is the only length that the graph takes.
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    at = 0
    while at < len(order):
        longest = lengths[order[at]]
        bucket = fixed or bucket_length(longest, max_tokens)
        most = max(1, min(max_rows, run_tokens // bucket))
        least = min(longest * _LEAST_SHARE, longest - _SLACK_TOKENS)
        end = at + 1
        while end < len(order) and end - at < most and lengths[order[end]] >= least:
            end += 1
        full = end - at == most and not fixed
        yield Chunk(order[at:end], longest if full else bucket, most)
        at = end


def filled(ids: Sequence[Array], length: int, pad_id: int) -> tuple[Array, Array]:
    """Ids and mask, int64 [texts, length], filled up on the right."""
    padded = np.full((len(ids), length), pad_id, np.int64)
    mask = np.zeros((len(ids), length), np.int64)
    for row, own in enumerate(ids):
        padded[row, : len(own)] = own
        mask[row, : len(own)] = 1
    return padded, mask
