"""The calls that wait for a batch: who may run together, who is next. No threads here: the batcher holds its lock."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue

from fleet.contracts import Priority
from worker.contract import Array
from worker.engine.batch_pace import Pace
from worker.engine.batch_rows import Bucket
from worker.engine.manifest import Batching
from worker.stop import StopToken

#: A call's own rows, or what its run raised.
Outcome = dict[str, Array] | Exception
#: After so many runs that went past it a call is urgent: whatever comes, it waits no longer than these.
PASSED_OVER = 8
#: How long a bucket keeps to smaller batches after one was too large for the memory.
_SMALLER_FOR_S = 60.0


@dataclass(eq=False)
class Call:
    """One request for a run, made by a thread that waits for its answer."""

    feeds: Mapping[str, Array]
    rows: int
    bucket: Bucket
    stop: StopToken
    priority: Priority
    number: int
    #: Runs that had begun when it came.
    runs_before: int
    #: Of the monotonic clock: when it came, and until when it waits for company.
    came_at: float
    waits_until: float
    #: Rows that its run has at most, its own aside; None: as many as the model takes.
    most_rows: int | None = None
    #: Appointed to lead a run, and whom it must take along in place of those it would choose.
    leads: bool = False
    together: "list[Call] | None" = None
    #: While it is part of a run.
    batch: "Batch | None" = None
    #: When its first run began, and the rows of the one that answered it.
    started_at: float = 0.0
    ran_with: int = 0
    outcome: Outcome | None = None
    #: What a run failed with that it shared: its fault, or that of sharing, as its own run will show.
    failed_with_others: str = ""
    #: Something has happened to it: look again.
    mail: "SimpleQueue[None]" = field(default_factory=SimpleQueue)

    @property
    def stopped(self) -> bool:
        return self.stop.reason is not None


@dataclass(eq=False)
class Batch:
    """Calls that share a run, the first of which leads; `token` ends the run."""

    calls: list[Call]
    token: StopToken
    #: Whether every instance had something to do when it began.
    crowded: bool = True

    @property
    def leader(self) -> Call:
        return self.calls[0]

    @property
    def rows(self) -> int:
        return sum(call.rows for call in self.calls)


class BatchQueue:
    """By bucket. A call that was taken out is somebody else's to answer."""

    def __init__(self, batching: Batching, pace: Pace | None = None) -> None:
        """pace: limits what runs together; None: nothing does but `batching`."""
        self._pace = pace
        self._most = batching.max_batch_size
        self._preferred = sorted({size for size in batching.preferred if size <= self._most}, reverse=True)
        self._delays = batching.max_delay_ms > 0
        self._buckets: dict[Bucket, list[Call]] = {}
        #: Rows that a batch of the bucket may have after one ran out of memory, and until when.
        self._smaller: dict[Bucket, tuple[int, float]] = {}
        #: Runs that have begun.
        self.runs = 0
        #: Calls that wait here; may be read without the lock.
        self.waiting = 0

    def add(self, call: Call) -> None:
        self.waiting += 1
        self._buckets.setdefault(call.bucket, []).append(call)

    def remove(self, call: Call) -> bool:
        """False when it does not wait here."""
        calls = self._buckets.get(call.bucket, [])
        if call not in calls:
            return False
        calls.remove(call)
        self.waiting -= 1
        if not calls:
            del self._buckets[call.bucket]
        return True

    def next_leader(self, now: float) -> Call | None:
        """Whose batch is to run now, taken out; None while all wait for company, or nobody waits."""
        heads = [ordered[0] for ordered in map(self._ordered, self._buckets.values()) if self._is_due(ordered, now)]
        if not heads:
            return None
        head = min(heads, key=self._rank)
        self.remove(head)
        return head

    def company(self, leader: Call, forming: int = 0) -> list[Call]:
        """The leader and whoever of its bucket runs with it, taken out.

        As many as fit; with preferred sizes the largest of them that can be made, if any can. forming: other
        leaders that put a batch together now. Where runs are paced and wait for nobody, they get their share.
        """
        waiting = self._ordered(self._buckets.get(leader.bucket, []))
        most, rows, chosen, preferred = self.most_rows(leader), leader.rows, [leader], 1
        if self._pace and not self._delays:
            most = min(most, -(-sum(call.rows for call in [leader, *waiting]) // (forming + 1)))
        for call in waiting:
            rows, most = rows + call.rows, min(most, self.most_rows(call))
            if rows > most:
                break
            chosen.append(call)
            if rows in self._preferred:
                preferred = len(chosen)
        if preferred > 1 or leader.rows in self._preferred:
            chosen = chosen[:preferred]
        for call in chosen[1:]:
            self.remove(call)
        return chosen

    def most_rows(self, call: Call) -> int:
        most, until = self._smaller.get(call.bucket, (self._most, 0.0))
        limits = [most if time.monotonic() < until else self._most, call.most_rows or self._most]
        return min(*limits, self._pace.most_rows(call.bucket)) if self._pace else min(limits)

    def ran(self, batch: Batch, seconds: float) -> None:
        """A run went well, and took so long. One that had cores to spare is no measure of those that have not."""
        if self._pace and batch.crowded:
            self._pace.learn(batch.leader.bucket, batch.rows, seconds)

    def keep_smaller(self, bucket: Bucket, rows: int) -> None:
        """For a while: a run of twice as many did not fit the memory."""
        now = time.monotonic()
        self._smaller = {key: kept for key, kept in self._smaller.items() if kept[1] > now}
        self._smaller[bucket] = (max(rows, 1), now + _SMALLER_FOR_S)

    def _ordered(self, calls: list[Call]) -> list[Call]:
        return sorted(calls, key=self._rank) if len(calls) > 1 else calls

    def _rank(self, call: Call) -> tuple[int, int]:
        passed_over = self.runs - call.runs_before >= PASSED_OVER
        return (Priority.URGENT if passed_over else call.priority, call.number)

    def _is_due(self, ordered: list[Call], now: float) -> bool:
        if not self._delays or min(call.waits_until for call in ordered) <= now:
            return True
        rows, most = 0, self.most_rows(ordered[0])
        for call in ordered:
            rows += call.rows
            if rows >= most or rows in self._preferred:
                return True
        return False
