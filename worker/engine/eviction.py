"""Which loaded model has to go when another needs its place. Pure: no clock, no lock, no memory is touched here.

    Recency      the one unused for longest (LRU)
    Frequency    the one used least often (LFU); for comparison
    GreedyDual   uses × seconds to load ÷ bytes, over a floor that rises with each eviction
    Rate         uses of late × seconds to load ÷ bytes
    BestOf       whichever of several would have cost the fewest seconds of loading of late

No single rule wins on every trace: among models that tenants use in bursts recency does, under a steady mix the rate
does, and both lose by half where the other is right. What would have happened under each is cheap to keep: numbers.

GreedyDual-Size-Frequency: L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
Policy", HP Labs HPL-98-69R1 (1998). Following the expert with the least loss of late: G. Vietri et al., "Driving Cache
Replacement with ML-based LeCaR", HotStorage (2018); it weighs two, with luck; this takes the best of three, without.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

#: Uses of any model after which an earlier use of one counts half.
_RATE_HALF_LIFE = 300
#: Uses after which what a rule has cost counts half.
_LOSS_HALF_LIFE = 300


class Policy(Protocol):
    """Told of every use, loaded or not: what was used before it went is remembered. Ties go to the one first named."""

    def used(self, key: str, weight: int, cost_s: float) -> None:
        """`weight` is what it takes of the limit, `cost_s` what it takes to load it again."""
        ...

    def victim(self, among: Collection[str]) -> str:
        """The one to go; `among` is not empty, and each was used before."""
        ...

    def gone(self, key: str) -> None:
        """It is no longer loaded."""
        ...

    def limit(self, weight: int) -> None:
        """What all that may go can take together, told when it changes."""
        ...


class Recency:
    def __init__(self) -> None:
        self._uses = 0
        self._last: dict[str, int] = {}

    def used(self, key: str, weight: int, cost_s: float) -> None:
        self._uses += 1
        self._last[key] = self._uses

    def victim(self, among: Collection[str]) -> str:
        return min(among, key=lambda key: self._last[key])

    def gone(self, key: str) -> None:
        pass

    def limit(self, weight: int) -> None:
        pass


class Frequency(Recency):
    def used(self, key: str, weight: int, cost_s: float) -> None:
        self._last[key] = self._last.get(key, 0) + 1


class GreedyDual(Recency):
    """With the uses of those that have gone remembered: there are tens of models, not millions of pages."""

    def __init__(self) -> None:
        super().__init__()
        self._floor = 0.0
        self._uses_of: dict[str, int] = {}
        self._score: dict[str, float] = {}

    def used(self, key: str, weight: int, cost_s: float) -> None:
        self._uses_of[key] = self._uses_of.get(key, 0) + 1
        self._score[key] = self._floor + self._uses_of[key] * _worth(weight, cost_s)

    def victim(self, among: Collection[str]) -> str:
        return min(among, key=lambda key: self._score[key])

    def gone(self, key: str) -> None:
        self._floor = max(self._floor, self._score.get(key, 0.0))


class Rate(Recency):
    """Uses of late, each counting half of one that came so many uses (of any model) later."""

    def __init__(self, half_life: int = _RATE_HALF_LIFE) -> None:
        super().__init__()
        self._decay = 0.5 ** (1 / half_life)
        #: Key -> (rate at the last use, when that was, worth).
        self._rates: dict[str, tuple[float, int, float]] = {}

    def used(self, key: str, weight: int, cost_s: float) -> None:
        self._uses += 1
        rate, at, _ = self._rates.get(key, (0.0, self._uses, 0.0))
        self._rates[key] = (rate * self._decay ** (self._uses - at) + 1, self._uses, _worth(weight, cost_s))

    def victim(self, among: Collection[str]) -> str:
        return min(among, key=self._score)

    def _score(self, key: str) -> float:
        rate, at, worth = self._rates[key]
        return float(rate * self._decay ** (self._uses - at) * worth)


class _Shadow:
    """What would be loaded under a rule alone, and what that would have cost of late."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.lost_s = 0.0
        self.held: dict[str, int] = {}

    def used(self, key: str, weight: int, cost_s: float, limit: int) -> None:
        self.lost_s *= 0.5 ** (1 / _LOSS_HALF_LIFE)
        self.policy.used(key, weight, cost_s)
        if key not in self.held:
            self.lost_s += cost_s
        self.held[key] = weight
        while sum(self.held.values()) > limit and len(self.held) > 1:
            victim = self.policy.victim([other for other in self.held if other != key])
            del self.held[victim]
            self.policy.gone(victim)


class BestOf:
    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self._shadows: Sequence[_Shadow] = [_Shadow(policy) for policy in policies or _experts()]
        self._limit = 0

    def used(self, key: str, weight: int, cost_s: float) -> None:
        for shadow in self._shadows:
            shadow.used(key, weight, cost_s, self._limit)

    def victim(self, among: Collection[str]) -> str:
        """What the best rule would not have kept, else what it would let go next."""
        best = min(self._shadows, key=lambda shadow: shadow.lost_s)
        return best.policy.victim([key for key in among if key not in best.held] or among)

    def gone(self, key: str) -> None:
        """Each rule has evictions of its own."""

    def limit(self, weight: int) -> None:
        self._limit = weight


def _experts() -> list[Policy]:
    return [Recency(), GreedyDual(), Rate()]


def _worth(weight: int, cost_s: float) -> float:
    return cost_s / max(1, weight)
