"""Words to waiters that may get lost: said if Redis is there, and never a reason to fail."""

from collections.abc import Iterable
from uuid import UUID

from fleet.broker import Broker
from fleet.contracts import Job, JobState
from fleet.errors import DependencyError
from fleet.logs import get_logger

log = get_logger(__name__)


class Doorbell:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def ended(self, jobs: Iterable[Job]) -> None:
        """To the waiters (they also ask the record). Gives up at the first that Redis does not take."""
        self._tell((job.id, job.state) for job in jobs)

    def cancelled(self, job_ids: Iterable[UUID]) -> None:
        """The same of jobs of which no more than the ids is known: their rows may be large."""
        self._tell((job_id, JobState.CANCELLED) for job_id in job_ids)

    def _tell(self, ends: Iterable[tuple[UUID, JobState]]) -> None:
        try:
            for job_id, state in ends:
                self._broker.tell_ended(job_id, state)
        except DependencyError as error:
            log.warning("ends not told", error=error.code)
