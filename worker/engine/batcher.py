"""The batcher of a loaded model: rows of several jobs share one run, and nobody waits while the model is idle.

It has no thread. Of the threads that call it, one leads a run for all:

    call -> the model is free   -> lead: take along what waits and fits, run, hand out, appoint the next leader
         -> a run is under way  -> wait -> answered by the leader of a later run
                                        -> or appointed to lead one

So what arrived during a run is the next batch, and a call that is alone costs microseconds more than its run.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from queue import Empty
from threading import Lock

from fleet.contracts import Priority
from fleet.errors import ModelError, NoCapableWorker, RunStopped
from fleet.logs import get_logger
from worker.contract import Array
from worker.engine.batch_pace import Pace
from worker.engine.batch_queue import Batch, BatchQueue, Call, Outcome
from worker.engine.batch_return import Returning
from worker.engine.batch_rows import Answer, bucket_of, joined, parted, refuse_too_many, rows_of
from worker.engine.batch_trust import Trust
from worker.engine.manifest import Batching
from worker.stop import StopToken

Run = Callable[[Mapping[str, Array], StopToken], dict[str, Array]]
#: A leader that was stopped gets out within so many seconds; the others' run then begins again without it.
_LEADER_LEAVES_S = 1.0
_NO_MEMORY = "inference-out-of-memory"
log = get_logger(__name__)


class Batcher:
    """Thread-safe."""

    def __init__(
        self,
        run: Run,
        batching: Batching,
        *,
        model: str,
        ran: Callable[[int, float], None] = lambda items, seconds: None,
        waited: Callable[[float], None] = lambda seconds: None,
        paced: bool = False,
    ) -> None:
        """`run` is the model's; `model` names it in messages.

        ran: told of each run that went well, with its rows and its seconds. waited: told of each call's seconds here
        before its run began. paced: what runs together is limited by what was seen to be slower (batch_pace.py).
        """
        self._run_model = run
        self._most = batching.max_batch_size
        self._delay_s = batching.max_delay_ms / 1000
        self._ran = ran
        self._waited = waited
        self._trust = Trust(model)
        self._lock = Lock()
        self._free = batching.instances
        #: Leaders that are appointed, and have not put their batches together yet.
        self._forming = 0
        self._queue = BatchQueue(batching, Pace() if paced else None)
        #: Parts of batches that failed: they run before anything else, and as they are.
        self._parts: deque[list[Call]] = deque()
        self._numbers = count()
        self._returning = Returning()

    @property
    def fault(self) -> ModelError | None:
        """Why the model is not batched although its author asks for it; None while it is."""
        return self._trust.fault

    def refuse(self, reason: str) -> None:
        """The model is not batched from here on."""
        self._trust.refuse(reason)

    def run(
        self,
        feeds: Mapping[str, Array],
        stop: StopToken,
        priority: Priority = Priority.NORMAL,
        most_rows: int | None = None,
    ) -> Answer:
        """The outputs for these rows, as a run of their own would give them.

        most_rows: they are joined with no more than would make so many.

        Raises ValidationFailed `batch-too-large`, and what the model's run raises, for these rows alone; RunStopped as
        soon as the token is set, except in the thread that leads a run for others: there after a second at most.
        """
        rows = rows_of(feeds)
        refuse_too_many(rows, self._most)
        if not rows:
            return self._unbatched(feeds, stop)
        call = self._new_call(feeds, rows, stop, priority, most_rows)
        with self._lock:
            self._queue.add(call)
            self._appoint()
        with stop.calling(lambda: self._stop(call)):
            while call.outcome is None:
                if call.leads:
                    self._lead(call)
                else:
                    self._await(call)
        self._waited(call.started_at - call.came_at)
        if isinstance(call.outcome, Exception):
            raise call.outcome
        # As a run does: a token that was set in its last moment ends the job here.
        stop.check()
        return Answer(call.outcome, call.ran_with)

    def _new_call(
        self, feeds: Mapping[str, Array], rows: int, stop: StopToken, priority: Priority, most_rows: int | None
    ) -> Call:
        now = time.monotonic()
        return Call(
            feeds=feeds,
            rows=rows,
            bucket=bucket_of(feeds),
            stop=stop,
            priority=priority,
            number=next(self._numbers),
            runs_before=self._queue.runs,
            came_at=now,
            # Nobody joins it where the model is not batched any more.
            waits_until=now + (self._delay_s if self._trust.fault is None else 0.0),
            most_rows=most_rows,
        )

    def _unbatched(self, feeds: Mapping[str, Array], stop: StopToken) -> Answer:
        """Of no rows."""
        began = time.monotonic()
        outputs = self._run_model(feeds, stop)
        self._ran(0, time.monotonic() - began)
        return Answer(outputs, 1)

    def _await(self, call: Call) -> None:
        """Until something happens to the call. Raises RunStopped once it is stopped and has no run to lead."""
        with self._lock:
            left_s = call.waits_until - time.monotonic()
            if left_s <= 0 and self._delay_s:
                # Nobody else may look at the queue again before the next call comes.
                self._appoint()
            if call.leads or call.outcome is not None:
                return
            if call.stopped:
                self._queue.remove(call)
                # With the lock held: whoever is appointed afterwards is one that stays.
                call.stop.check()
            batch = call.batch
        if batch is not None and batch.leader.stopped:
            left_s = _LEADER_LEAVES_S
        try:
            call.mail.get(timeout=left_s if left_s > 0 else None)
        except Empty:
            if batch is not None and batch.leader.stop.reason is not None:
                batch.token.set(batch.leader.stop.reason)
            with self._lock:
                self._appoint()

    def _stop(self, call: Call) -> None:
        """The call's token was set."""
        with self._lock:
            self._queue.remove(call)
            batch = call.batch
            if batch is not None and len(batch.calls) > 1 and call.stop.reason is not None:
                if all(other.stopped for other in batch.calls):
                    batch.token.set(call.stop.reason)
                elif call is batch.leader:
                    for other in batch.calls:
                        other.mail.put(None)
        call.mail.put(None)

    def _appoint(self) -> None:
        """Gives each free instance its next leader. With the lock held, and after whatever may make a batch due."""
        while self._free:
            leader = self._next_leader()
            if leader is None:
                return
            self._free -= 1
            self._forming += 1
            leader.leads = True
            leader.mail.put(None)

    def _next_leader(self) -> Call | None:
        while self._parts:
            part = [call for call in self._parts.popleft() if not call.stopped]
            if part:
                part[0].together = part
                return part[0]
        return self._queue.next_leader(time.monotonic())

    def _lead(self, leader: Call) -> None:
        """One run, in the leader's thread."""
        batch = self._formed(leader)
        if batch is None:
            return
        outcomes: list[Outcome] = []
        # Whatever happens to the leader, the others are not left without an answer.
        again = [batch.calls[1:]]
        try:
            outcomes, again = self._ran_together(batch)
        finally:
            # The next run begins before the answers of this one are handed out.
            self._leave(batch, again)
        for call, outcome in zip(batch.calls, outcomes, strict=False):
            call.ran_with = batch.rows
            call.outcome = outcome
            call.mail.put(None)

    def _formed(self, leader: Call) -> Batch | None:
        """What the leader runs: put together no earlier than now, so that it takes along who came until now."""
        if self._trust.fault is None:
            self._returning.wait(lambda: self._queue.waiting)
        with self._lock:
            self._forming -= 1
            leader.leads, together, leader.together = False, leader.together, None
            if leader.stopped:
                self._free += 1
                self._parts.extendleft([together] if together else [])
                self._appoint()
                return None
            calls = together or ([leader] if self._trust.fault else self._queue.company(leader, self._forming))
            calls = [call for call in calls if call is leader or not call.stopped]
            batch = Batch(calls, StopToken() if len(calls) > 1 else leader.stop, crowded=not self._free)
            now = time.monotonic()
            for call in calls:
                call.batch = batch
                call.started_at = call.started_at or now
            self._queue.runs += 1
        return batch

    def _leave(self, batch: Batch, again: list[list[Call]]) -> None:
        self._returning.answered(len(batch.calls), time.monotonic() - batch.leader.started_at)
        with self._lock:
            for call in batch.calls:
                call.batch = None
            self._parts.extendleft(reversed(again))
            self._free += 1
            self._appoint()

    def _ran_together(self, batch: Batch) -> tuple[list[Outcome], list[list[Call]]]:
        """The outcome of each call, or none and who is to run again with whom."""
        calls, token = batch.calls, batch.token
        began = time.monotonic()
        try:
            outputs = self._run_model(joined([call.feeds for call in calls]), token)
            seconds = time.monotonic() - began
            if len(calls) > 1:
                own = self._own_rows(batch, outputs)
                if own is None:
                    return [], [[call] for call in calls]
            else:
                own = [outputs]
                if reason := calls[0].failed_with_others:
                    self._trust.doubt(reason)
        except Exception as error:  # noqa: BLE001 (each call raises its own)
            return self._after_failure(batch, error)
        with self._lock:
            self._queue.ran(batch, seconds)
        self._ran(batch.rows, seconds)
        return [*own], []

    def _own_rows(self, batch: Batch, outputs: dict[str, Array]) -> list[dict[str, Array]] | None:
        """Those of each call; None when the model turns out not to be one for batches."""
        trust = self._trust
        if not trust.has_rows(outputs, batch.rows):
            return None
        own = parted(outputs, [call.rows for call in batch.calls])
        if not trust.proven and not trust.agrees(own[0], self._run_model(batch.leader.feeds, batch.token)):
            return None
        return own

    def _after_failure(self, batch: Batch, error: Exception) -> tuple[list[Outcome], list[list[Call]]]:
        """A single call has failed; of several it is found out which, by halves: others' inputs are not its fault."""
        calls = batch.calls
        if len(calls) == 1:
            return [error], []
        if isinstance(error, NoCapableWorker):
            # The device is lost to all.
            return [type(error)(error.message, code=error.code, **error.facts) for _ in calls], []
        if isinstance(error, RunStopped):
            return [], [calls]
        if isinstance(error, MemoryError) or getattr(error, "code", None) == _NO_MEMORY:
            with self._lock:
                self._queue.keep_smaller(batch.leader.bucket, batch.rows // 2)
        else:
            for call in calls:
                call.failed_with_others = str(error)
        log.warning("batch failed: its parts run by themselves", calls=len(calls), rows=batch.rows, reason=str(error))
        half = (len(calls) + 1) // 2
        return [], [calls[:half], calls[half:]]
