"""What was run of each model in this process (`fleet/usage.py`): told about once a second, and at the end."""

import threading
from collections import defaultdict
from collections.abc import Mapping

from fleet.contracts import Job, JobState, Stage
from fleet.embeddings import TASK_NAME, requests_in
from fleet.errors import FleetError
from fleet.logs import get_logger
from fleet.usage import UsageBoard, UsageDelta, nanoseconds
from worker.engine.run_watch import RunWatch

log = get_logger(__name__)
_TELL_S = 1.0
_QUEUE = (Stage.QUEUE, Stage.LOAD)
_INPUT = (Stage.FETCH, Stage.DECODE, Stage.PREPARE)
_OUTPUT = (Stage.FINISH, Stage.ENCODE, Stage.STORE)

Untold = dict[tuple[str, int], UsageDelta]


class Usage:
    """Thread-safe. Watches the runs of models (`RunWatch`), and passes on what it hears."""

    def __init__(self, board: UsageBoard, also: RunWatch) -> None:
        """`also` is told of the same runs."""
        self._board = board
        self._also = also
        self._lock = threading.Lock()
        self._untold: Untold = defaultdict(UsageDelta)
        #: What is being told, or could not be told.
        self._telling: Untold = {}
        self._teller = threading.Lock()

    def ran(self, name: str, version: int, items: int, seconds: float) -> None:
        """One run of the model, of `items` items: rows of a batch, or 1 where it knows none."""
        with self._lock:
            self._untold[name, version].ran(items, seconds)
        self._also.ran(name, version, items, seconds)

    def waited(self, name: str, version: int, seconds: float) -> None:
        """A part of the job's time in the model."""
        self._also.waited(name, version, seconds)

    def ended(self, job: Job, state: JobState | None, timings: Mapping[str, float]) -> None:
        """After an attempt; counts where the job ended with it. `timings` are its seconds per stage."""
        if state not in (JobState.SUCCEEDED, JobState.FAILED, JobState.EXPIRED):
            return
        # Each request of a joined job has waited and run as long as the job.
        requests = requests_in(job.params) if job.task == TASK_NAME else 1
        with self._lock:
            delta = self._untold[job.model, job.version]
            if state is JobState.SUCCEEDED:
                delta.success += requests
                delta.queue_ns += requests * _spent(timings, _QUEUE)
                delta.input_ns += requests * _spent(timings, _INPUT)
                delta.infer_ns += requests * _spent(timings, (Stage.INFER,))
                delta.output_ns += requests * _spent(timings, _OUTPUT)
            else:
                delta.failure += requests
                delta.failure_ns += requests * nanoseconds(sum(timings.values()))

    def tell(self) -> None:
        """Adds it to the record. What could not be told is told the next time."""
        with self._teller:
            if not self._telling:
                with self._lock:
                    self._telling, self._untold = self._untold, defaultdict(UsageDelta)
            try:
                self._board.add(self._telling)
            except FleetError as error:
                log.warning("usage of models not written", code=error.code)
            else:
                self._telling = {}

    def keep_telling(self, ended: threading.Event) -> None:
        """Until `ended` is set. For a thread of its own."""
        while not ended.wait(_TELL_S):
            try:
                self.tell()
            except Exception:
                # Counting outlives whatever comes.
                log.exception("usage of models not written")


def _spent(timings: Mapping[str, float], stages: tuple[Stage, ...]) -> int:
    return nanoseconds(sum(timings.get(stage.value, 0.0) for stage in stages))
