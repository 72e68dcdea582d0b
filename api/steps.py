"""The steps of a background thread: each stands alone, so that what fails holds up nothing else."""

from collections.abc import Callable

from api.measures import Measures
from fleet.errors import FleetError
from fleet.logs import get_logger

log = get_logger(__name__)


class Steps:
    """Runs steps and tells what they did."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        #: step -> code of its last failure, so that a lasting fault is one line in the log.
        self._faults: dict[str, str] = {}

    def run(self, name: str, step: Callable[[], None]) -> None:
        """A failure is logged and counted, and never raised."""
        try:
            step()
        except FleetError as error:
            self._measures.reconciler_failed(name)
            if self._faults.get(name) != error.code:
                log.warning("reconciler step failed", step=name, error=error.code, reason=error.message)
            self._faults[name] = error.code
        except Exception:
            self._measures.reconciler_failed(name)
            log.exception("reconciler step failed", step=name)
        else:
            if self._faults.pop(name, None):
                log.info("reconciler step works again", step=name)

    def did(self, action: str, count: int, **facts: object) -> None:
        if count:
            self._measures.reconciled(action, count)
            log.info("reconciled", action=action, count=count, **facts)
