"""The scenarios: which machines, which jobs, and what dies when. `small` is what the replay with real workers runs."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fleet.contracts import DevicePolicy, Lane, Pool
from routing_lab.work import Floats, Mix, Model, Trace, drawn, together

QUICK_LANE, BULK_LANE = Lane.INTERACTIVE, Lane.BULK
DAY_S = 86_400.0


@dataclass(frozen=True)
class Machines:
    """So many worker processes of one kind."""

    count: int
    pool: Pool
    lane: Lane
    slots: int = 1


@dataclass(frozen=True)
class Death:
    """So many GPU worker processes of a lane vanish with their machine, and come back."""

    lane: Lane
    count: int
    at: float
    back_at: float


@dataclass(frozen=True)
class Scenario:
    name: str
    machines: tuple[Machines, ...]
    trace: Trace
    deaths: tuple[Death, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)

    def slots(self, pool: Pool, lane: Lane) -> int:
        return sum(part.count * part.slots for part in self.machines if (part.pool, part.lane) == (pool, lane))


ECHO = Model("echo", BULK_LANE, DevicePolicy.PREFER_GPU, 0.05, 0.4, sigma=0.02)
LESIONS = Model(
    "lesions", BULK_LANE, DevicePolicy.PREFER_GPU, 4.0, 30.0, sigma=0.3, card_s={Pool.GPU: 6.0, Pool.CPU: 30.0}
)
ORGANS = Model("organs", BULK_LANE, DevicePolicy.PREFER_GPU, 8.0, 80.0, sigma=0.3, sizes=(0.3, 0.5, 0.2))
DIFFUSION = Model("diffusion", BULK_LANE, DevicePolicy.GPU_ONLY, 10.0, 1e9, sigma=0.2, card_s={Pool.GPU: 10.0})
REPORT = Model("report", BULK_LANE, DevicePolicy.ANY, 2.0, 5.0, sigma=0.3, card_s={Pool.GPU: 1.0, Pool.CPU: 10.0})
TABLES = Model("tables", BULK_LANE, DevicePolicy.CPU_ONLY, 1e9, 4.0, sigma=0.3)
EMBED = Model("embed", QUICK_LANE, DevicePolicy.PREFER_GPU, 0.005, 0.03, sigma=0.2)
DETECT = Model("detect", QUICK_LANE, DevicePolicy.ANY, 0.012, 0.06, sigma=0.3, card_s={Pool.GPU: 0.02, Pool.CPU: 0.05})
TOKENS = Model("tokens", QUICK_LANE, DevicePolicy.CPU_ONLY, 1e9, 0.003, sigma=0.2)

BULK = [(LESIONS, 0.45), (ORGANS, 0.2), (DIFFUSION, 0.1), (REPORT, 0.15), (TABLES, 0.1)]
QUICK = [(EMBED, 0.6), (DETECT, 0.3), (TOKENS, 0.1)]
TENANTS = [("clinic", 0.4), ("study", 0.3), ("lab", 0.2), ("guest", 0.1)]

SMALL = (Machines(1, Pool.GPU, BULK_LANE), Machines(2, Pool.CPU, BULK_LANE))
SMALL_DAY = (
    Machines(2, Pool.GPU, BULK_LANE),
    Machines(1, Pool.GPU, QUICK_LANE, 4),
    Machines(8, Pool.CPU, BULK_LANE),
    Machines(2, Pool.CPU, QUICK_LANE, 4),
)
LARGE = (
    Machines(30, Pool.GPU, BULK_LANE),
    Machines(10, Pool.GPU, QUICK_LANE, 4),
    Machines(120, Pool.CPU, BULK_LANE),
    Machines(40, Pool.CPU, QUICK_LANE, 4),
)


def burst(scale: str, chance: np.random.Generator) -> Scenario:
    """All at once."""
    if scale == "small":
        return Scenario("burst", SMALL, drawn(chance, np.zeros(300), Mix([(ECHO, 1.0)])))
    return Scenario("burst", LARGE, drawn(chance, np.zeros(60_000), Mix(BULK, tenants=TENANTS)))


def trickle(scale: str, chance: np.random.Generator) -> Scenario:
    """Half of what the GPUs can do: nobody needs to help."""
    if scale == "small":
        return Scenario("trickle", SMALL, drawn(chance, steady(chance, 10.0, 60.0), Mix([(ECHO, 1.0)])))
    return Scenario("trickle", LARGE, drawn(chance, steady(chance, 2.2, 5_400.0), Mix(BULK, tenants=TENANTS)))


def death(scale: str, chance: np.random.Generator) -> Scenario:
    """A GPU's machine vanishes for a while: at small scale the only one, at large scale a third of them."""
    if scale == "small":
        trace = drawn(chance, steady(chance, 10.0, 90.0), Mix([(ECHO, 1.0)]))
        return Scenario("death", SMALL, trace, (Death(BULK_LANE, 1, 30.0, 60.0),))
    trace = drawn(chance, steady(chance, 3.6, 7_200.0), Mix(BULK, tenants=TENANTS))
    return Scenario("death", LARGE, trace, (Death(BULK_LANE, 10, 2_400.0, 4_800.0),))


def day(scale: str, chance: np.random.Generator, part: float = 1.0) -> Scenario:
    """A day of everything: quick jobs and volumes, a quiet night and a busy afternoon, corpora that come at once, a
    nightly archive of one tenant, and a rack of GPUs that is lost for an hour at the busiest time.
    """
    size, machines = (1.0 / 15, SMALL_DAY) if scale == "small" else (1.0, LARGE)
    size *= part
    bulk = drawn(chance, diurnal(chance, round(262_000 * size)), Mix(BULK, tenants=TENANTS))
    quick = drawn(chance, diurnal(chance, round(568_000 * size)), Mix(QUICK, tenants=TENANTS))
    archive = np.full(round(10_000 * size), 2 * 3600.0)
    nightly = drawn(chance, archive, Mix([(LESIONS, 1.0)], priorities=(0, 0, 0, 1), tenants=[("archive", 1.0)]))
    corpora = np.repeat(chance.uniform(0, DAY_S, 32), round(5_000 * size))
    embedded = drawn(chance, corpora, Mix([(EMBED, 1.0)], priorities=(0, 0, 0.5, 0.5), tenants=[("search", 1.0)]))
    lost = Death(BULK_LANE, 1 if scale == "small" else 8, 14 * 3600.0, 15 * 3600.0)
    return Scenario("day", machines, together(bulk, quick, nightly, embedded), (lost,), {"clinic": 2.0})


SCENARIOS: dict[str, Callable[[str, np.random.Generator], Scenario]] = {
    "burst": burst,
    "trickle": trickle,
    "death": death,
    "day": day,
}


def steady(chance: np.random.Generator, rate: float, seconds: float) -> Floats:
    """Moments of a Poisson process."""
    moments: Floats = chance.uniform(0, seconds, round(rate * seconds))
    return moments


def diurnal(chance: np.random.Generator, count: int) -> Floats:
    """Moments within a day whose rate goes as 1 + 0.6 sin: least at 2 o'clock, most at 14 o'clock."""
    moments: Floats = np.empty(0)
    while len(moments) < count:
        tried = chance.uniform(0, DAY_S, 2 * count)
        rate = 1 + 0.6 * np.sin((tried / DAY_S - 8 / 24) * 2 * np.pi)
        moments = np.concatenate([moments, tried[chance.uniform(0, 1.6, len(tried)) < rate]])
    return moments[:count]
