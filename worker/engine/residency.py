"""What is loaded within a limit, by number or by size: what has to go for a newcomer, and what can never come.

Pure bookkeeping for the registry, which holds the lock, and for the benchmark, which has no sessions at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from worker.engine.eviction import BestOf, Policy, Recency


@dataclass(eq=False)
class Place:
    """What one session takes of the limit, from before it is made until its memory is back."""

    key: str
    weight: int
    cost_s: float
    pinned: bool = False


class DoesNotFit(Exception):
    """Not even beside nothing but what has to stay. Weights in the residency's unit."""

    def __init__(self, wanted: int, limit: int, staying: int) -> None:
        super().__init__(f"{wanted} of {limit}, of which {staying} have to stay")
        self.wanted, self.limit, self.staying = wanted, limit, staying


class Residency:
    """`by_count`: each session weighs 1, whatever its size."""

    def __init__(self, limit: int, policy: Policy | None = None, *, by_count: bool = False) -> None:
        self.by_count = by_count
        self._policy = policy or (Recency() if by_count else BestOf())
        self._places: list[Place] = []
        self._limit = limit
        self._policy.limit(limit)

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        """Others take of the same device, or have given back."""
        if limit != self._limit:
            self._limit = limit
            self._tell_limit()

    @property
    def places(self) -> list[Place]:
        return list(self._places)

    @property
    def held(self) -> int:
        """Counted, two sessions of a model are one: the one replaces the other."""
        if self.by_count:
            return len({place.key for place in self._places})
        return sum(place.weight for place in self._places)

    @property
    def pinned(self) -> int:
        """What has to stay; of two sessions of a model, while one replaces the other, the larger."""
        kept: dict[str, int] = {}
        for place in self._places:
            if place.pinned:
                kept[place.key] = max(place.weight, kept.get(place.key, 0))
        return sum(kept.values())

    def victims(self, place: Place, idle: Iterable[Place], beside: Place | None = None) -> list[Place] | None:
        """Who of the idle has to go so that this one can come; None when they are not enough.

        `beside` has to stay: the session that this one is to replace. Counted, the two are one. Raises DoesNotFit.
        """
        staying = self.pinned + (beside.weight if beside and not beside.pinned else 0)
        twice = beside.weight if beside and self.by_count else 0
        if place.weight + staying - twice > self._limit:
            raise DoesNotFit(place.weight, self._limit, staying)
        missing = self.held + place.weight - twice - self._limit
        going = self.cheapest(missing, (other for other in idle if other is not beside))
        return going if sum(other.weight for other in going) >= missing else None

    def surplus(self, idle: Iterable[Place]) -> list[Place]:
        """Who has to go since more is held than the limit allows: a size turned out larger."""
        return self.cheapest(self.held - self._limit, idle)

    def cheapest(self, weight: int, idle: Iterable[Place]) -> list[Place]:
        """Those that free so much and are missed least, or all that may go."""
        may_go = {place.key: place for place in idle if not place.pinned}
        going: list[Place] = []
        while weight > 0 and may_go:
            going.append(may_go.pop(self._policy.victim(may_go)))
            weight -= going[-1].weight
        return going

    def add(self, place: Place) -> None:
        self._places.append(place)
        self._tell_limit()

    def remove(self, place: Place) -> None:
        self._places.remove(place)
        self._tell_limit()
        if not place.pinned and not any(other.key == place.key for other in self._places):
            self._policy.gone(place.key)

    def pin(self, place: Place, pinned: bool) -> None:
        if place.pinned and not pinned:
            self._policy.used(place.key, place.weight, place.cost_s)
        place.pinned = pinned
        self._tell_limit()

    def used(self, place: Place) -> None:
        if not place.pinned:
            self._policy.used(place.key, place.weight, place.cost_s)

    def _tell_limit(self) -> None:
        self._policy.limit(max(0, self._limit - self.pinned))
