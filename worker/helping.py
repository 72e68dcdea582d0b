"""Helping out: the queues of the GPUs that a CPU worker takes from besides its own, because it is asked to.

Who is asked to, and why, stands in the row `traffic` (`fleet/traffic.py`). A thread reads it here; the event loop joins
and leaves accordingly (`boot/help.py`).
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping

from fleet.contracts import Job, Lane, Pool
from fleet.errors import FleetError
from fleet.logs import get_logger
from fleet.queues import QueueKind, QueueName
from fleet.traffic import TrafficBoard

log = get_logger(__name__)
#: Between two looks.
LOOK_S = 0.7
#: Whoever writes the row may just be replaced: what it says holds on, and only a fresh one changes anything.
_STALE_S = 15.0


class Helping:
    """What this worker was asked to do, and since when it does it. Thread-safe."""

    def __init__(
        self,
        board: TrafficBoard,
        *,
        worker: str,
        lanes: Collection[Lane],
        willing: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        #: Whether it looks at all.
        self.willing = willing
        self._board = board
        self._worker = worker
        self._lanes = frozenset(lanes)
        self._clock = clock
        #: Both are replaced as a whole by the thread that looks. The reasons outlast the request: messages do, too.
        self._asked: frozenset[str] = frozenset()
        self._whys: Mapping[str, str] = {}
        #: Changed by the event loop alone.
        self._since: dict[str, float] = {}

    @property
    def asked(self) -> frozenset[str]:
        """The queues to take from besides its own."""
        return self._asked

    @property
    def joined(self) -> list[str]:
        return list(self._since)

    def why(self, job: Job, pool: Pool) -> str:
        """The reason for running it on a worker of that pool, in words."""
        if job.pool is pool:
            return job.route_reason
        return self._whys.get(job.queue, job.route_reason)

    def look(self) -> None:
        """Reads what is asked now. What cannot be read changes nothing."""
        try:
            told = self._board.asked_of(self._worker)
        except FleetError as error:
            log.debug("whether help is wanted could not be read", code=error.code)
            return
        if told is None or told[1] > _STALE_S:
            return
        asked = {queue: why for queue, why in told[0].items() if self._may_help(queue)}
        self._whys = {**self._whys, **asked}
        self._asked = frozenset(asked)

    def keep_looking(self, ended: threading.Event, period_s: float) -> None:
        while not ended.is_set():
            try:
                self.look()
            except Exception:
                # A worker that no longer looks would help for ever, or never: this thread outlives whatever comes.
                log.exception("whether help is wanted could not be read")
            ended.wait(period_s)

    def note_joined(self, queue: str) -> None:
        self._since[queue] = self._clock()

    def note_left(self, queue: str) -> None:
        self._since.pop(queue, None)

    def joined_within(self, queue: str, seconds: float) -> bool:
        since = self._since.get(queue)
        return since is not None and self._clock() - since < seconds

    def _may_help(self, queue: str) -> bool:
        try:
            name = QueueName.parse(queue)
        except ValueError:
            return False
        return name.kind is QueueKind.GPU and name.lane in self._lanes
