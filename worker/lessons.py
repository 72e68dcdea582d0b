"""What the runs of this process teach of service times (`fleet/service_times.py`), told with the heartbeat."""

import threading
from collections.abc import Mapping

from fleet.contracts import Job, Stage
from fleet.cost import Belief, Key, size_bucket
from fleet.errors import FleetError
from fleet.logs import get_logger
from fleet.service_times import Observations, ServiceTimes

log = get_logger(__name__)
#: Waiting for a turn or for memory holds no device, and a model is loaded once for many jobs.
_NO_WORK = {Stage.QUEUE.value, Stage.LOAD.value}
#: The record's share of a run, most of what a tiny job takes. Whatever is longer was an outage.
_RECORD_S = 0.05


class Lessons:
    """Thread-safe."""

    def __init__(self, times: ServiceTimes, kind: str) -> None:
        """`kind` is that of the device."""
        self._times = times
        self._kind = kind
        self._seen = Observations()
        self._telling = threading.Lock()
        self._untold: dict[Key, Belief] = {}

    def note(self, job: Job, timings: Mapping[str, float], between_s: float = 0.0) -> None:
        """After a success; `timings` are its seconds per stage, `between_s` those that belong to none."""
        worked_s = sum(spent for stage, spent in timings.items() if stage not in _NO_WORK)
        seconds = worked_s + min(between_s, _RECORD_S)
        self._seen.add(Key(job.model, job.version, size_bucket(job.input_bytes), self._kind), seconds)

    def tell(self) -> None:
        """Adds it to the record. What could not be told is told the next time."""
        with self._telling:
            if not self._untold:
                self._untold = self._seen.take()
            try:
                self._times.learn(self._untold)
            except FleetError as error:
                log.warning("service times not written", code=error.code)
            else:
                self._untold = {}
