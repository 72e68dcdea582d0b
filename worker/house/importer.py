"""The importer: a thread that brings in the versions that were asked for, one at a time."""

import threading
from collections.abc import Callable
from enum import StrEnum

from fleet.contracts import Lane, Pool
from fleet.errors import DependencyError, FleetError, ModelError, RunStopped
from fleet.logs import get_logger
from fleet.model_records import HousedVersion, ModelRecords
from fleet.objects import ObjectStore
from fleet.settings import Settings
from worker.house.held import HeldImport, was_taken
from worker.house.importing import Workshop, WrongPool
from worker.house.stored import prefix_of
from worker.stop import StopReason

_LOOK_S = 1.0
#: After an outage of the record or the object store.
_PAUSE_S = 5.0
#: Interactive workers leave imports to those of the bulk lane, as long as there are any.
_LEAVE_S = 10.0
#: An import whose workers died so often is not tried again.
MAX_LOSSES = 3
_END_S = 8.0
log = get_logger(__name__)


class Ended(StrEnum):
    """What became of an import on this worker."""

    READY = "ready"
    FAILED = "failed"
    #: For another worker to go on with, or this one, later.
    RELEASED = "released"
    WAITS = "waits"
    LOST = "lost"


class Importer:
    """`start` and `close` are called by the boot step. `ended` hears of each outcome."""

    def __init__(
        self,
        records: ModelRecords,
        workshop: Workshop,
        settings: Settings,
        *,
        worker: str,
        pool: Pool,
        ended: Callable[[str], object] = lambda ended: None,
    ) -> None:
        self._records = records
        self._workshop = workshop
        self._objects: ObjectStore = workshop.objects
        self._lease_s = settings.lease_s
        self._leave_s = 0.0 if Lane.BULK in settings.worker_lanes else _LEAVE_S
        self._worker = worker
        self._pool = pool
        self._ended = ended
        self._closing = threading.Event()
        self._held: HeldImport | None = None
        self._thread = threading.Thread(target=self._keep, name="importer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Hands back what is under way, so that another worker takes it at once."""
        self._closing.set()
        held = self._held
        if held is not None:
            held.stop.set(StopReason.DRAINED)
        self._thread.join(_END_S)

    def _keep(self) -> None:
        pause_s = 0.0
        while not self._closing.wait(pause_s):
            pause_s = _LOOK_S
            try:
                self._sweep()
                row = self._records.claim_import(self._worker, self._pool, self._lease_s, older_s=self._leave_s)
                if row is not None:
                    pause_s = 0.0 if self._import(row) else _PAUSE_S
            except FleetError as error:
                log.debug("the house cannot be asked", code=error.code)
                pause_s = _PAUSE_S
            except Exception:
                # A worker that imports nothing any more would keep others waiting: this thread outlives whatever comes.
                log.exception("importing failed unexpectedly")
                pause_s = _PAUSE_S

    def _import(self, row: HousedVersion) -> bool:
        """Whether to go on at once with the next one."""
        outcome = self._poisoned(row) if row.losses >= MAX_LOSSES else self._tried(row)
        self._ended(outcome)
        return outcome is not Ended.WAITS

    def _tried(self, row: HousedVersion) -> Ended:
        log.info("import begins", model=row.key, kind=row.source.kind, attempt=row.attempt)
        with HeldImport(row, self._records, self._lease_s) as held:
            self._held = held
            if self._closing.is_set():
                held.stop.set(StopReason.DRAINED)
            try:
                outcome = self._workshop.bring_in(held)
                if not self._records.finish_import(row, outcome.files, outcome.card, outcome.report):
                    return Ended.LOST
            except WrongPool as wrong:
                log.info("import handed over", model=row.key, pool=wrong.pool.value)
                self._records.release_import(row, wrong.pool)
                return Ended.RELEASED
            except RunStopped as stopped:
                return self._stopped(row, stopped)
            except DependencyError as error:
                return self._after_outage(row, error)
            except Exception as error:  # noqa: BLE001 (it goes into the record, and into the log where it is not ours)
                return self._failed(row, _as_ours(error))
            finally:
                self._held = None
        log.info("import is ready", model=row.key, **_told(outcome.report))
        self._remove_others(row)
        return Ended.READY

    def _poisoned(self, row: HousedVersion) -> Ended:
        fault = ModelError(
            f"{row.losses} workers died while they imported it: the model, or its source, is not to be trusted",
            code="import-poisoned",
            losses=row.losses,
        )
        return self._failed(row, fault)

    def _failed(self, row: HousedVersion, error: FleetError) -> Ended:
        log.warning("import failed", model=row.key, code=error.code, reason=error.message)
        if self._records.fail_import(row, error.as_dict()):
            # Not those of the next attempt, which may have begun by now.
            for attempt in range(1, row.attempt + 1):
                self._objects.remove_prefix(prefix_of(row.name, row.version, attempt))
        self._workshop.discard(row.key)
        return Ended.FAILED

    def _after_outage(self, row: HousedVersion, error: DependencyError) -> Ended:
        """Faults of Fleet's own servers say nothing of the model: it is tried again as long as they last."""
        if error.code not in _OUTAGES:
            return self._failed(row, error)
        log.warning("import handed back", model=row.key, code=error.code, reason=error.message)
        self._records.release_import(row)
        return Ended.WAITS

    def _stopped(self, row: HousedVersion, stopped: RunStopped) -> Ended:
        if was_taken(stopped):
            log.warning("import was taken over", model=row.key, attempt=row.attempt)
            return Ended.LOST
        log.info("import handed back", model=row.key)
        self._records.release_import(row)
        return Ended.RELEASED

    def _remove_others(self, row: HousedVersion) -> None:
        """What earlier attempts have stored, whoever made them."""
        ours = prefix_of(row.name, row.version, row.attempt)
        stored = self._objects.keys(prefix_of(row.name, row.version))
        self._objects.remove_all([key for key in stored if not key.startswith(ours)])

    def _sweep(self) -> None:
        """Versions that nobody finds any more: first their objects, then the row."""
        # Asked anew for each: once a row is gone, its number may be used again.
        while rows := self._records.removing():
            row = rows[0]
            self._objects.remove_prefix(prefix_of(row.name, row.version))
            self._records.removed(row.name, row.version)
            log.info("version removed", model=row.key)


_OUTAGES = frozenset(
    {"object-store-unavailable", "database-unavailable", "database-closed", "memory-busy", "memory-shared-out"}
)


def _as_ours(error: Exception) -> FleetError:
    if isinstance(error, FleetError):
        return error
    log.exception("import failed unexpectedly")
    if isinstance(error, OSError):
        return DependencyError(f"the worker's disk failed: {error.strerror}", code="worker-disk")
    return FleetError(f"unexpected {type(error).__name__} in the worker")


def _told(report: dict[str, object]) -> dict[str, object]:
    return {name: report[name] for name in ("layout", "bytes", "load_s", "warm_s", "memory_bytes") if name in report}
