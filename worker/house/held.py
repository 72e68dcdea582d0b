"""An import that this worker holds: its lease is renewed by a thread, with how far it has come."""

import threading
import time
from types import TracebackType

from fleet.errors import DependencyError, RunStopped
from fleet.logs import get_logger
from fleet.model_records import HousedVersion, ModelRecords
from worker.stop import StopReason, StopToken

log = get_logger(__name__)


class HeldImport:
    """Used by the importer's thread; `stop` ends what it does: drained, or the lease is lost."""

    def __init__(self, row: HousedVersion, records: ModelRecords, lease_s: float) -> None:
        self.row = row
        self.stop = StopToken()
        self._records = records
        self._lease_s = lease_s
        self._stage, self._done, self._total = "fetching", 0, None  # type: tuple[str, int, int | None]
        self._ended = threading.Event()
        self._renewed_at = time.monotonic()
        self._thread = threading.Thread(target=self._keep, name="import-lease", daemon=True)

    def __enter__(self) -> "HeldImport":
        self._thread.start()
        return self

    def __exit__(self, *exc: tuple[type[BaseException], BaseException, TracebackType] | None) -> None:
        self._ended.set()
        self._thread.join()

    def enter(self, stage: str) -> None:
        self.stop.check()
        self._stage, self._done, self._total = stage, 0, None

    def tell(self, done: int, total: int | None) -> None:
        self._done, self._total = done, total

    def check(self) -> None:
        """Raises RunStopped."""
        self.stop.check()

    def _keep(self) -> None:
        # Often enough for whoever watches a download, and well within the lease.
        while not self._ended.wait(min(1.0, self._lease_s / 3)):
            try:
                ours = self._records.renew_import(self.row, self._lease_s, self._stage, self._done, self._total)
            except DependencyError as error:
                log.debug("import not renewed", model=self.row.key, code=error.code)
                ours = time.monotonic() - self._renewed_at < self._lease_s
            except Exception:
                log.exception("import not renewed", model=self.row.key)
                ours = time.monotonic() - self._renewed_at < self._lease_s
            else:
                self._renewed_at = time.monotonic()
            if not ours:
                self.stop.set(StopReason.LEASE_LOST)


def was_taken(error: RunStopped) -> bool:
    return error.code == StopReason.LEASE_LOST.value
