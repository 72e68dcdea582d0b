"""How large jobs of embeddings are made: from a guess at tokens, and from what a model's jobs took so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.contracts import Job, Stage
from fleet.embeddings import MAX_INLINE_BYTES, EmbeddingResult
from fleet.errors import FleetError

#: Seconds that a part should run: so long that what a job costs besides is little, so short that a lost one is, too.
_PART_S = 1.0
_LEAST_PART_TOKENS, _MOST_PART_TOKENS = 8_192, 65_536
#: Of one job's texts as JSON in the record.
_MOST_PART_BYTES = 256 * 1024
#: Texts of a joined job while it is not known how long a model's vectors are.
_FIRST_JOINED = 16
#: A pace that was seen once is forgotten after a hundred jobs that were slower.
_FORGET = 1.02


@dataclass(frozen=True)
class Size:
    """Of some texts."""

    tokens: int
    bytes: int


def size_of(text: str | list[int]) -> Size:
    """A guess, rather too high: four letters make a token of English, and other scripts have more tokens a letter."""
    if not isinstance(text, str):
        return Size(len(text), 6 * len(text))
    if text.isascii():
        return Size(2 + len(text) // 4, len(text))
    return Size(2 + len(text), 3 * len(text))


class Sizes:
    """What was learned of each model, by the reference that requests have for it."""

    def __init__(self) -> None:
        self._row_bytes: dict[str, int] = {}
        self._token_s: dict[str, float] = {}
        self._most_texts: dict[str, int] = {}

    def learn(self, model: str, job: Job, result: EmbeddingResult) -> None:
        self._row_bytes[model] = result.row_bytes
        seconds = job.timings.get(Stage.INFER.value, 0.0)
        if seconds > 0 and result.total_tokens:
            # The fastest: with other jobs beside it, one takes longer than its size can tell.
            seen = seconds / result.total_tokens
            self._token_s[model] = min(seen, self._token_s.get(model, seen) * _FORGET)

    def learn_refused(self, model: str, error: FleetError) -> None:
        """A joined job had more texts than the model takes: the next ones have not."""
        most = error.facts.get("most")
        if error.code == "too-many-texts" and isinstance(most, int):
            self._most_texts[model] = most

    def most_joined(self, model: str) -> int:
        """Texts of a joined job: as many as have their vectors in the record."""
        row_bytes = self._row_bytes.get(model)
        most = MAX_INLINE_BYTES // row_bytes if row_bytes else _FIRST_JOINED
        return max(1, min(most, self._most_texts.get(model, most)))

    def part_tokens(self, model: str) -> int:
        token_s = self._token_s.get(model)
        wanted = int(_PART_S / token_s) if token_s else 0
        return min(max(wanted, _LEAST_PART_TOKENS), _MOST_PART_TOKENS)


def cut(sizes: Sequence[Size], most_tokens: int) -> list[range]:
    """The places of the texts of each part: of about the same number of tokens, in the order of the texts."""
    total = sum(size.tokens for size in sizes)
    share = total / max(1, -(-total // most_tokens))
    parts: list[range] = []
    begin, tokens, held = 0, 0, 0
    for place, size in enumerate(sizes):
        full = tokens + size.tokens / 2 > share * (len(parts) + 1) or held + size.bytes > _MOST_PART_BYTES
        if full and place > begin:
            parts.append(range(begin, place))
            begin, held = place, 0
        tokens += size.tokens
        held += size.bytes
    return [*parts, range(begin, len(sizes))]
