"""What was learned of service times: workers add what they saw, everybody reads (`cost.py`)."""

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Collection

from fleet.cost import Belief, CostModel, Key
from fleet.database import Database
from fleet.sql import statements

_SQL = statements("traffic")
#: So many of the latest jobs decide what is believed of their kind.
MEMORY = 60.0
_KEEP_S = 2.0
#: Of one kind, so many of the latest are kept until they are told.
_UNTOLD = 1000


class Observations:
    """What a worker has seen since it last told. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[Key, deque[float]] = _nothing()

    def add(self, key: Key, seconds: float) -> None:
        with self._lock:
            self._seen[key].append(math.log(max(seconds, 1e-4)))

    def take(self) -> dict[Key, Belief]:
        """All so far, each kind summed up; they are forgotten here."""
        with self._lock:
            seen, self._seen = self._seen, _nothing()
        return {key: _summed(logs) for key, logs in seen.items()}


class ServiceTimes:
    """Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read: tuple[float, CostModel] | None = None

    def learn(self, seen: dict[Key, Belief]) -> None:
        """Adds a sample to what is believed, in one statement; what is old fades."""
        if not seen:
            return
        keys, beliefs = list(seen), list(seen.values())
        self._database.run(
            _SQL["learn_service_times"],
            {
                "models": [key.model for key in keys],
                "versions": [key.version for key in keys],
                "buckets": [key.bucket for key in keys],
                "devices": [key.device for key in keys],
                "weights": [belief.weight for belief in beliefs],
                "means": [belief.mean_log for belief in beliefs],
                "variances": [belief.variance_log for belief in beliefs],
                "memory": MEMORY,
            },
        )

    def model(self) -> CostModel:
        """What is believed now, at most two seconds old."""
        read = self._read
        if read is None or time.monotonic() - read[0] > _KEEP_S:
            asked_at = time.monotonic()
            rows = self._database.run(_SQL["read_service_times"])
            beliefs = {
                Key(row["model"], row["version"], row["bucket"], row["device"]): Belief(
                    row["weight"], row["mean_log"], row["variance_log"]
                )
                for row in rows
            }
            read = self._read = (asked_at, CostModel(beliefs))
        return read[1]


def _nothing() -> dict[Key, deque[float]]:
    return defaultdict(lambda: deque(maxlen=_UNTOLD))


def _summed(logs: Collection[float]) -> Belief:
    mean = sum(logs) / len(logs)
    return Belief(float(len(logs)), mean, sum((value - mean) ** 2 for value in logs) / len(logs))
