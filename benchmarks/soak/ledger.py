"""What the submitters were told, and the clock that all parts share. Thread-safe."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from soak.plan import PlannedJob


class Clock:
    """Seconds since the start of the soak."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        #: The same moment by the wall clock, which is also the database's: all run on one machine.
        self.began_at = time.time()

    def now(self) -> float:
        return time.monotonic() - self._began


@dataclass
class Ledger:
    #: number -> id of the job, as the answer that accepted it said.
    accepted: dict[int, str] = field(default_factory=dict)
    plans: dict[int, PlannedJob] = field(default_factory=dict)
    #: number -> why it was refused for good.
    refused: dict[int, str] = field(default_factory=dict)
    #: Jobs whose cancel was answered with the word that they are cancelled.
    cancelled: set[int] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    #: What contradicts the API's promises.
    contradictions: list[str] = field(default_factory=list)
    #: The longest that a 503 took, in seconds.
    slowest_503_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, plan: PlannedJob, job_id: str) -> None:
        with self._lock:
            earlier = self.accepted.setdefault(plan.number, job_id)
            self.plans[plan.number] = plan
        if earlier != job_id:
            self.contradict(f"{plan.key} was accepted as {earlier} and again as {job_id}")

    def refuse(self, plan: PlannedJob, why: str) -> None:
        with self._lock:
            self.refused[plan.number] = why

    def note_cancelled(self, plan: PlannedJob) -> None:
        with self._lock:
            self.cancelled.add(plan.number)

    def contradict(self, what: str) -> None:
        with self._lock:
            self.contradictions.append(what)

    def count(self, answer: str) -> None:
        with self._lock:
            self.answers[answer] += 1

    def answered(self, status: int, headers: Any, took_s: float) -> None:
        """One HTTP answer to a submit or cancel."""
        self.count(str(status))
        if status == 503:
            with self._lock:
                self.slowest_503_s = max(self.slowest_503_s, took_s)
            if "retry-after" not in headers:
                self.contradict("a 503 without Retry-After")
