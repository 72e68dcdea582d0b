"""Requests for forty models, in five shapes of demand, with sizes and load times as model shelves have them.

Nobody's recording: each shape is drawn from a seed, and says one thing about demand that recordings show.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log, pi, sin

MODELS = 40
_MIB = 1024**2


@dataclass(frozen=True)
class Trace:
    name: str
    #: Bytes and seconds to load, by the number of the model.
    sizes: list[int]
    costs: list[float]
    requests: list[int]


def made(name: str, requests: int, seed: int) -> Trace:
    rng = random.Random(f"{name}/{seed}")
    sizes = [round(min(1500.0, max(8.0, exp(rng.gauss(log(120), 1.0)))) * _MIB) for _ in range(MODELS)]
    costs = [(0.05 + size / 600e6) * exp(rng.gauss(0, 0.4)) for size in sizes]
    return Trace(name, sizes, costs, SHAPES[name](rng, requests))


def _zipf(rng: random.Random, count: int) -> list[int]:
    """A few models get most requests, whatever the hour."""
    return rng.choices(_shuffled(rng), _weights(0.9), k=count)


def _drifting(rng: random.Random, count: int) -> list[int]:
    """The same, and what is asked for most changes slowly: models are replaced by newer ones."""
    order = _shuffled(rng)
    asked: list[int] = []
    while len(asked) < count:
        asked += rng.choices(order, _weights(0.9), k=400)
        order = [order[-1], *order[:-1]]
    return asked[:count]


def _scanned(rng: random.Random, count: int) -> list[int]:
    """The same, and now and then somebody tries every model once: a smoke test, a comparison."""
    order = _shuffled(rng)
    asked: list[int] = []
    while len(asked) < count:
        asked += rng.choices(order, _weights(1.1), k=700)
        asked += _shuffled(rng)
    return asked[:count]


def _bursty(rng: random.Random, count: int) -> list[int]:
    """Tenants come with work for six models of theirs, some forty requests in a row, and go."""
    tenants = [rng.sample(range(MODELS), 6) for _ in range(12)]
    asked: list[int] = []
    while len(asked) < count:
        length = 1 + int(rng.expovariate(1 / 40))
        asked += rng.choices(rng.choice(tenants), [1 / n for n in range(1, 7)], k=length)
    return asked[:count]


def _day_and_night(rng: random.Random, count: int) -> list[int]:
    """Two mixes that take turns: people by day, batches by night."""
    mixes = (_shuffled(rng), _shuffled(rng))
    asked = []
    for n in range(count):
        by_day = rng.random() < 0.5 + 0.5 * sin(4 * pi * n / count)
        asked += rng.choices(mixes[by_day], _weights(1.0))
    return asked


def _shuffled(rng: random.Random) -> list[int]:
    return rng.sample(range(MODELS), MODELS)


def _weights(exponent: float) -> list[float]:
    return [1 / rank**exponent for rank in range(1, MODELS + 1)]


SHAPES: dict[str, Callable[[random.Random, int], list[int]]] = {
    "zipf": _zipf,
    "drifting": _drifting,
    "scanned": _scanned,
    "bursty": _bursty,
    "day-night": _day_and_night,
}
