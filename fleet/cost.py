"""The cost model: how long a job holds a worker, from its model, the size of its inputs and the kind of device.

Learned online from the jobs that ended (`service_times.py`), one log-normal distribution for each
(model, version, size bucket, device); until then from the card.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fleet.card import Card
from fleet.contracts import Lane, Pool

#: The kind of every CPU. Those of GPUs are the names of their products.
CPU_KIND = "cpu"
#: A job of an unknown model, in seconds.
_USUAL_S = {
    (Lane.INTERACTIVE, Pool.GPU): 0.01,
    (Lane.INTERACTIVE, Pool.CPU): 0.05,
    (Lane.BULK, Pool.GPU): 3.0,
    (Lane.BULK, Pool.CPU): 30.0,
}
#: Standard deviations of the logarithm: of what is only said, and the least of what was measured.
_UNSURE, _SURE = 1.0, 0.05
#: A neighbouring bucket has twice the bytes; the time grows with this power of the bytes.
_GROWTH = 0.8
#: So many jobs as measured count as much as what the card says.
_PRIOR_WEIGHT = 1.0
#: What is concluded from the other kind of device, besides: the deviation of the logarithm.
_FOREIGN = 0.7
#: The tenth and the ninetieth part in a hundred of a normal distribution.
_Z = 1.2816


class Basis(StrEnum):
    """What an estimate goes by."""

    MEASURED = "measured"
    SIMILAR = "similar sizes"
    CARD = "the model's card"


@dataclass(frozen=True)
class Key:
    """What decides how long a job takes."""

    model: str
    version: int
    bucket: int
    device: str


@dataclass(frozen=True)
class Belief:
    """The logarithm of the seconds: mean and variance, and how many jobs they stand for."""

    weight: float
    mean_log: float
    variance_log: float


@dataclass(frozen=True)
class Estimate:
    """Seconds that a job holds a worker: the mean, and a range that holds four of five such jobs."""

    mean_s: float
    low_s: float
    high_s: float
    basis: Basis


def size_bucket(input_bytes: int) -> int:
    """0 for nothing, then one more each time the bytes double."""
    return max(0, input_bytes).bit_length()


class CostModel:
    """A reading of what was learned; immutable."""

    def __init__(self, beliefs: Mapping[Key, Belief]) -> None:
        self._beliefs = beliefs
        self._buckets: dict[tuple[str, int, str], list[int]] = {}
        self._devices: dict[tuple[str, int], set[str]] = {}
        for key in beliefs:
            self._buckets.setdefault((key.model, key.version, key.device), []).append(key.bucket)
            self._devices.setdefault((key.model, key.version), set()).add(key.device)

    def estimate(self, card: Card, input_bytes: int, pool: Pool, kinds: Iterable[str] = ()) -> Estimate:
        """On the devices of these kinds, or on a usual one of the pool."""
        priors = {each: prior_s(card, each) for each in Pool}
        bucket, other = size_bucket(input_bytes), Pool.CPU if pool is Pool.GPU else Pool.GPU
        return self.of(card.name, card.version, bucket, pool, kinds, prior_s=priors[pool], other_prior_s=priors[other])

    def of(
        self,
        model: str,
        version: int,
        bucket: int,
        pool: Pool,
        kinds: Iterable[str] = (),
        *,
        prior_s: float,
        other_prior_s: float | None = None,
    ) -> Estimate:
        """`prior_s`: what the card says of this pool, `other_prior_s`: of the other one (see `prior_s`)."""
        devices = sorted(set(kinds)) or [CPU_KIND if pool is Pool.CPU else "gpu"]
        ratio = prior_s / other_prior_s if other_prior_s else None
        found = [self._on(Key(model, version, bucket, device), prior_s, ratio) for device in devices]
        # Of several kinds of a pool nobody knows which one it will be.
        mean = sum(estimate.mean_s for estimate in found) / len(found)
        low, high = min(estimate.low_s for estimate in found), max(estimate.high_s for estimate in found)
        worst = max(found, key=lambda estimate: list(Basis).index(estimate.basis))
        return Estimate(mean, low, high, worst.basis)

    def _on(self, key: Key, prior_s: float, ratio: float | None) -> Estimate:
        prior = Belief(_PRIOR_WEIGHT, math.log(prior_s), _UNSURE**2)
        own = self._beliefs.get(key)
        if own is not None:
            return _estimate(_both(prior, own) if own.weight < 5 else own, Basis.MEASURED)
        similar = self._nearest(key, key.device)
        if similar is not None:
            return _estimate(similar, Basis.SIMILAR)
        foreign = self._elsewhere(key) if ratio else None
        if foreign is not None and ratio:
            # Of a card only the ratio is needed then: who never used the CPUs must be able to see that it would pay.
            moved = Belief(foreign.weight, foreign.mean_log + math.log(ratio), foreign.variance_log + _FOREIGN**2)
            return _estimate(moved, Basis.CARD)
        return _estimate(prior, Basis.CARD)

    def _nearest(self, key: Key, device: str) -> Belief | None:
        """What is believed of the nearest size on that device, scaled to this one."""
        buckets = self._buckets.get((key.model, key.version, device))
        if not buckets:
            return None
        nearest = min(buckets, key=lambda other: (abs(other - key.bucket), -other))
        known = self._beliefs[Key(key.model, key.version, nearest, device)]
        # A quarter of its seconds is taken not to depend on the size at all.
        scaled = math.log(0.25 + 0.75 * 2.0 ** (_GROWTH * (key.bucket - nearest)))
        return Belief(known.weight, known.mean_log + scaled, known.variance_log + (0.3 * (key.bucket - nearest)) ** 2)

    def _elsewhere(self, key: Key) -> Belief | None:
        """On the other kind of device; of several GPUs, on the one that is best known."""
        devices = self._devices.get((key.model, key.version), set())
        others = sorted(other for other in devices if (other == CPU_KIND) is not (key.device == CPU_KIND))
        known = (self._nearest(key, other) for other in others)
        return max((belief for belief in known if belief), key=lambda belief: belief.weight, default=None)


def prior_s(card: Card, pool: Pool) -> float:
    """What the card says, or what is usual in its lane."""
    return card.expected_s.get(pool) or usual_s(card.lane, pool)


def usual_s(lane: Lane, pool: Pool) -> float:
    """Seconds of a job of which nothing is known."""
    return _USUAL_S[lane, pool]


def _both(one: Belief, other: Belief) -> Belief:
    """Two samples taken together (Chan et al. 1983, the pairwise formula of the variance)."""
    weight = one.weight + other.weight
    gap = other.mean_log - one.mean_log
    mean = one.mean_log + gap * other.weight / weight
    squares = one.weight * one.variance_log + other.weight * other.variance_log
    return Belief(weight, mean, squares / weight + gap**2 * one.weight * other.weight / weight**2)


def _estimate(belief: Belief, basis: Basis) -> Estimate:
    """Mean and quantiles of a log-normal distribution: exp(mu + sigma^2 / 2), exp(mu -+ z sigma)."""
    sigma = max(_SURE, math.sqrt(belief.variance_log))
    # A few wild values must not make the mean absurd.
    mean = math.exp(belief.mean_log + min(sigma, 1.0) ** 2 / 2)
    low, high = math.exp(belief.mean_log - _Z * sigma), math.exp(belief.mean_log + _Z * sigma)
    return Estimate(mean, min(low, mean), max(high, mean), basis)
