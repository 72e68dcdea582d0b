"""Which words an answer has: the likeliest next one each time, or the best of several beams, as transformers does it.

Beam search is that of transformers 5.23 (`GenerationMixin._beam_search`), item by item: of 2·n candidates the best n
may end, the best n that do not end go on, and an item is done when no running beam can beat the worst finished one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array
from worker.vqa.decoding import Decoding
from worker.vqa.publisher import Search


@dataclass(frozen=True)
class Way:
    """Where decoding begins, and where it ends."""

    #: int64 [rows, n], tokens that are given.
    given: Array
    #: The token that ends a row.
    stop: int
    #: At most so many.
    new_tokens: int
    #: Called before each token; ends the work by raising.
    check: Callable[[], None]


@dataclass(frozen=True)
class Said:
    """What one row became."""

    #: All tokens, those that were given and the one that ends it included.
    ids: list[int]
    #: How many of them are new.
    new: int
    #: Sum of the logarithms of the new tokens' probabilities.
    log_probability: float
    #: Whether it came to its end, or was cut off.
    ended: bool


def greedy(decoding: Decoding, way: Way) -> list[Said]:
    """As many answers as rows, in their order. A row that has ended costs nothing from there on."""
    given = way.given
    said: dict[int, Said] = {}
    rows, sums = list(range(len(given))), np.zeros(len(given))
    tokens = given
    for number in range(way.new_tokens):
        way.check()
        chances = log_softmax(decoding.feed(tokens))
        chosen = chances.argmax(axis=1)
        sums = sums + chances[np.arange(len(rows)), chosen]
        last = number + 1 == way.new_tokens
        going = [at for at, token in enumerate(chosen) if token != way.stop and not last]
        for at in set(range(len(rows))) - set(going):
            ids = [*map(int, decoding.ids[at]), int(chosen[at])]
            said[rows[at]] = Said(ids, number + 1, float(sums[at]), bool(chosen[at] == way.stop))
        if not going:
            break
        decoding.keep(going)
        rows, sums, tokens = [rows[at] for at in going], sums[going], chosen[going, None]
    return [said[row] for row in range(len(given))]


@dataclass
class _Item:
    """One answer's beams: those that run, best first, and those that are finished."""

    way: Way
    search: Search
    #: (sum, tokens) of each.
    running: list[tuple[float, list[int]]]
    #: (sum by length, sum, tokens) of each.
    finished: list[tuple[float, float, list[int]]] = field(default_factory=list)

    def grow(self, chances: Array) -> list[int] | None:
        """chances: float32 [running, words], logarithms -> of each new running beam the old one that it grew from.

        None when the item is done.
        """
        length = len(self.running[0][1]) + 1
        sums = (chances + np.asarray([score for score, _ in self.running], np.float32)[:, None]).reshape(-1)
        beams = self.search.num_beams
        best = largest(sums, 2 * beams)
        parents, words = best // chances.shape[1], best % chances.shape[1]
        going = []
        for rank, (parent, word, place) in enumerate(zip(parents, words, best, strict=True)):
            score, ids = float(sums[place]), [*self.running[parent][1], int(word)]
            if word != self.way.stop and length < self._most:
                going.append((int(parent), (score, ids)))
            elif rank < beams:
                self._finish(score, ids)
        self.running = [beam for _, beam in going[:beams]]
        return None if self._is_done(length) else [parent for parent, _ in going[:beams]]

    @property
    def _given(self) -> int:
        return int(self.way.given.shape[1])

    @property
    def _most(self) -> int:
        return self._given + self.way.new_tokens

    def _finish(self, score: float, ids: list[int]) -> None:
        weighed = score / (len(ids) - self._given) ** self.search.length_penalty
        self.finished = sorted([*self.finished, (weighed, score, ids)], key=lambda one: -one[0])
        del self.finished[self.search.num_beams :]

    def _is_done(self, length: int) -> bool:
        if not self.running:
            return True
        search = self.search
        if len(self.finished) < search.num_beams:
            return False
        hopeful = search.early_stopping == "never" and search.length_penalty > 0
        ahead = (self._most if hopeful else length) - self._given
        possible = self.running[0][0] / ahead**search.length_penalty
        return search.early_stopping is True or possible <= self.finished[-1][0]

    def said(self) -> Said:
        _, score, ids = self.finished[0]
        return Said(ids, len(ids) - self._given, score, ids[-1] == self.way.stop)


def beamed(decoding: Decoding, way: Way, search: Search) -> list[Said]:
    """As `greedy`, with `search.num_beams` beams for each row."""
    items = [_Item(way, search, [(0.0, list(map(int, row)))]) for row in way.given]
    going, tokens = list(items), way.given
    while going:
        way.check()
        chances = log_softmax(decoding.feed(tokens))
        kept: list[int] = []
        for item, first, rows in list(_parted(chances, going)):
            parents = item.grow(rows)
            if parents is None:
                going.remove(item)
            else:
                kept += [first + parent for parent in parents]
        if going:
            decoding.keep(kept)
            tokens = np.asarray([ids[-1:] for item in going for _, ids in item.running], np.int64)
    return [item.said() for item in items]


def _parted(chances: Array, items: Sequence[_Item]) -> Iterator[tuple[_Item, int, Array]]:
    """Each with the place of its first row, and its rows."""
    first = 0
    for item in items:
        yield item, first, chances[first : first + len(item.running)]
        first += len(item.running)


def largest(numbers: Array, count: int) -> Array:
    """Places of the `count` largest numbers, the largest first, and of equal ones the first: float32 [n] -> int64.

    Few of the words are sorted: a vocabulary has tens of thousands. None of the numbers may be NaN.
    """
    if count < len(numbers):
        least = np.partition(numbers, -count)[-count]
        places = np.flatnonzero(numbers >= least)
    else:
        places = np.arange(len(numbers))
    return places[np.argsort(-numbers[places], kind="stable")][:count]


def log_softmax(logits: Array) -> Array:
    """float32 [rows, words]. Raises ModelError `result-not-finite`: beams that are no numbers hide behind others."""
    with np.errstate(invalid="ignore"):
        below = logits - logits.max(axis=1, keepdims=True)
        chances: Array = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    if np.isnan(chances).any():
        raise ModelError("the model answered with numbers that are not finite", code="result-not-finite")
    return chances
