"""Words to waiters that may get lost: said if Redis is there, and never a reason to fail."""

from collections.abc import Iterable

from fleet.broker import Broker
from fleet.contracts import Job
from fleet.errors import DependencyError
from fleet.logs import get_logger

log = get_logger(__name__)


class Doorbell:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def ended(self, jobs: Iterable[Job]) -> None:
        """To the waiters (they also ask the record). Gives up at the first that Redis does not take."""
        try:
            for job in jobs:
                self._broker.tell_ended(job.id, job.state)
        except DependencyError as error:
            log.warning("ends not told", error=error.code)
