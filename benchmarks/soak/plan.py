"""What a soak does, all of it drawn from the seed beforehand: which jobs come when, which faults hit whom."""

import random
from dataclasses import dataclass
from enum import StrEnum


class JobKind(StrEnum):
    ECHO = "echo"
    MASK = "mask"
    LONG_ECHO = "long echo"
    LONG_MASK = "long mask"
    BROKEN = "broken input"

    @property
    def long(self) -> bool:
        return self in (JobKind.LONG_ECHO, JobKind.LONG_MASK)


@dataclass(frozen=True)
class PlannedJob:
    """`at_s` counts from the start of the soak; `seed` makes its input, and with it the right answer."""

    number: int
    at_s: float
    kind: JobKind
    priority: str
    seed: int
    #: Through `fleet_client`, or through bare HTTP with an Idempotency-Key.
    by_client: bool
    #: The input travels as an upload and not within the request.
    uploaded: bool
    #: The same request is sent once more after it was accepted.
    repeated: bool
    wait_s: int
    cancel_after_s: float | None
    deadline_s: float | None

    @property
    def key(self) -> str:
        return f"soak-{self.number}"

    @property
    def must_succeed(self) -> bool:
        return self.kind is not JobKind.BROKEN and self.cancel_after_s is None and self.deadline_s is None


class FaultKind(StrEnum):
    WORKER_KILL = "worker SIGKILL"
    WORKER_FREEZE = "worker SIGSTOP"
    WORKER_TERM = "worker SIGTERM"
    ROLLING_RESTART = "rolling restart of all workers"
    API_KILL = "api SIGKILL"
    API_TERM = "api SIGTERM"
    API_KILL_AFTER_202 = "api SIGKILL right after a 202"
    API_KILL_UNPUBLISHED = "api SIGKILL after a 202 that Redis never heard of"
    REDIS_FLUSH = "Redis FLUSHALL"
    REDIS_RESTART = "Redis killed, restarted empty"
    REDIS_CONNECTIONS = "Redis connections killed"
    REDIS_SWALLOWED = "Redis link swallows packets"
    REDIS_STRANDED = "Redis links half open for good"
    MESSAGES_LOST = "messages lost"
    MESSAGES_DOUBLED = "messages doubled"
    POSTGRES_RESTART = "PostgreSQL restarted"
    POSTGRES_CRASH = "PostgreSQL crashed, recovered"
    POSTGRES_SESSIONS = "PostgreSQL sessions ended"
    POSTGRES_SWALLOWED = "PostgreSQL link swallows packets"
    OBJECTS_DOWN = "object store down"
    OBJECTS_SWALLOWED = "object store link swallows packets"


#: Those that end or hold up a run under way, most likely culprit first. The others only touch what waits.
ENDS_RUNS = (
    FaultKind.WORKER_KILL,
    FaultKind.WORKER_FREEZE,
    FaultKind.WORKER_TERM,
    FaultKind.ROLLING_RESTART,
    FaultKind.POSTGRES_SWALLOWED,
    FaultKind.POSTGRES_CRASH,
    FaultKind.POSTGRES_RESTART,
    FaultKind.POSTGRES_SESSIONS,
    FaultKind.OBJECTS_DOWN,
    FaultKind.OBJECTS_SWALLOWED,
)
#: Seconds that a fault lasts, least and most; what is not here is over at once.
_LASTS: dict[FaultKind, tuple[float, float]] = {
    FaultKind.WORKER_FREEZE: (30.0, 30.0),
    FaultKind.REDIS_RESTART: (0.2, 8.0),
    FaultKind.REDIS_SWALLOWED: (5.0, 20.0),
    FaultKind.POSTGRES_RESTART: (0.2, 6.0),
    FaultKind.POSTGRES_CRASH: (0.2, 3.0),
    FaultKind.POSTGRES_SWALLOWED: (5.0, 20.0),
    FaultKind.OBJECTS_DOWN: (10.0, 60.0),
    FaultKind.OBJECTS_SWALLOWED: (5.0, 20.0),
}
#: Workers die more often than anything else.
_ROUND = [*FaultKind, FaultKind.WORKER_KILL, FaultKind.WORKER_KILL, FaultKind.WORKER_TERM]
#: After the fleet is up and before the end, nothing is broken for a while.
_CALM_S = 5.0


@dataclass(frozen=True)
class PlannedFault:
    """`victim` is a worker's index, or -1 for all processes at once where the fault is one of links."""

    number: int
    at_s: float
    kind: FaultKind
    victim: int
    lasts_s: float


def plan_jobs(seed: int, *, short: int, long: int, duration_s: float) -> list[PlannedJob]:
    """In the order of their time, spread over all of it."""
    dice = random.Random(f"jobs {seed}")
    kinds = [_short_kind(dice) for _ in range(short)]
    kinds += [dice.choice((JobKind.LONG_ECHO, JobKind.LONG_MASK)) for _ in range(long)]
    dice.shuffle(kinds)
    times = sorted(dice.uniform(0, duration_s) for _ in kinds)
    return [_job(dice, number, at_s, kind) for number, (at_s, kind) in enumerate(zip(times, kinds, strict=True))]


def _short_kind(dice: random.Random) -> JobKind:
    (kind,) = dice.choices((JobKind.ECHO, JobKind.MASK, JobKind.BROKEN), (70, 28, 2))
    return kind


def _job(dice: random.Random, number: int, at_s: float, kind: JobKind) -> PlannedJob:
    (priority,) = dice.choices(("urgent", "high", "normal", "low"), (1, 2, 6, 2))
    cancelled = dice.random() < (0.2 if kind.long else 0.03)
    bounded = not cancelled and dice.random() < (0.2 if kind.long else 0.03)
    return PlannedJob(
        number=number,
        at_s=at_s,
        kind=kind,
        priority=priority,
        seed=dice.randrange(1_000_000),
        by_client=dice.random() < 0.4,
        uploaded=dice.random() < 0.6,
        repeated=dice.random() < 0.1,
        wait_s=dice.choice((2, 5)) if dice.random() < 0.1 else 0,
        cancel_after_s=dice.uniform(0, 8) if cancelled else None,
        deadline_s=dice.uniform(2, 30) if bounded else None,
    )


def plan_faults(seed: int, *, workers: int, duration_s: float) -> list[PlannedFault]:
    """One in seven seconds, every kind about as often as the others; one in four comes together with the next."""
    dice = random.Random(f"faults {seed}")
    faults: list[PlannedFault] = []
    kinds: list[FaultKind] = []
    at_s = _CALM_S
    while at_s < duration_s - _CALM_S:
        if not kinds:
            kinds = dice.sample(_ROUND, len(_ROUND))
        kind = kinds.pop()
        least, most = _LASTS.get(kind, (0.0, 0.0))
        victim = dice.randrange(-1, workers) if "link" in kind.value else dice.randrange(workers)
        faults.append(PlannedFault(len(faults), at_s, kind, victim, dice.uniform(least, most)))
        at_s += dice.uniform(0.0, 1.0) if dice.random() < 0.25 else dice.uniform(3.0, 15.0)
    return faults
