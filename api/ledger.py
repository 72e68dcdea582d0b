"""What this process knows of each tenant's part of a queue, so that a submit counts nothing while there is room."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from api.traffic import TrafficReader
from fleet import shares
from fleet.queues import QueueName

#: Seconds for which a count is gone by; other front doors submit, too.
_KEEP_S = 1.0
#: Seconds after a count that found many, for which only counts are gone by: the leader's look is that old at most.
_CAREFUL_S = 4.0
#: Nothing is counted below this part of a window: the rest is for what other front doors do meanwhile.
_SAFE = 0.5


@dataclass
class _Entry:
    jobs: int
    at: float
    careful_until: float = float("-inf")


class Ledger:
    """Thread-safe."""

    def __init__(self, traffic: TrafficReader, weights: Mapping[str, float]) -> None:
        self._traffic = traffic
        self._weights = weights
        self._lock = threading.Lock()
        #: Of the tenants that this server knows: few.
        self._entries: dict[tuple[str, str], _Entry] = {}

    def window(self, queue: str, tenant: str) -> int | None:
        """Messages that the tenant may have in the queue, if they have to be counted; None while there surely is room.

        With None the submit is noted as one that adds a message.
        """
        seen = self._traffic.now()
        there = seen.queues.get(queue) if seen is not None else None
        size = there.window if there is not None and there.window else shares.LEAST[QueueName.parse(queue).lane]
        window = shares.window_of(size, self._weights.get(tenant, 1.0))
        now = time.monotonic()
        with self._lock:
            entry = self._entries.get((queue, tenant))
            if (entry is None or now - entry.at > _KEEP_S) and seen is not None:
                careful_until = entry.careful_until if entry is not None else float("-inf")
                if now > careful_until:
                    # All tenants' jobs: more than this one's, and mostly none.
                    entry = _Entry(there.jobs if there is not None else 0, now)
                    self._entries[queue, tenant] = entry
            if entry is None or now - entry.at > _KEEP_S or entry.jobs + 1 > _SAFE * window:
                return window
            entry.jobs += 1
            return None

    def counted(self, queue: str, tenant: str, jobs: int, window: int, *, held: bool) -> None:
        """What the submit counted: so many messages, before its own."""
        now = time.monotonic()
        many = held or jobs + 1 > _SAFE * window
        with self._lock:
            self._entries[queue, tenant] = _Entry(
                window if held else jobs + 1, now, now + _CAREFUL_S if many else float("-inf")
            )
