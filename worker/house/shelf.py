"""The house as a worker sees it: the versions that are ready, and their files once they are needed here."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from fleet.errors import DependencyError, IntegrityError, NoCapableWorker
from fleet.logs import get_logger
from fleet.model_records import HousedVersion, ModelRecords
from fleet.objects import ObjectStore
from worker.contract import Progress, Task
from worker.engine.model_folder import read_versions
from worker.engine.model_version import ModelVersion
from worker.house.disk import Disk
from worker.house.stored import fetch_files

Key = tuple[str, int]
log = get_logger(__name__)


class HouseShelf:
    """Thread-safe. `came` hears of bytes as they are fetched."""

    def __init__(
        self,
        records: ModelRecords,
        objects: ObjectStore,
        disk: Disk,
        tasks: Mapping[str, Task],
        came: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._records = records
        self._objects = objects
        self._disk = disk
        self._tasks = tasks
        self._came = came
        self._lock = threading.Lock()
        self._rows: dict[Key, HousedVersion] = {}
        self._read: dict[str, ModelVersion] = {}

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(self._rows)

    def look(self) -> bool:
        """Reads what the record says; whether anything has changed. Raises DependencyError."""
        rows = {(row.name, row.version): row for row in self._records.versions() if row.state == "ready"}
        with self._lock:
            changed = {key: digest_of(row) for key, row in rows.items()} != {
                key: digest_of(row) for key, row in self._rows.items()
            }
            self._rows = rows
            alive = {disk_key(row) for row in rows.values()}
            self._read = {key: version for key, version in self._read.items() if key in alive}
        return changed

    def replaced(self, read: ModelVersion) -> bool:
        """Whether the house has other files under that name and number by now."""
        row = self._rows.get((read.name, read.version))
        return row is not None and not read.folder.is_relative_to(self._disk.folder(disk_key(row)))

    def get(self, name: str, version: int, progress: Progress | None) -> ModelVersion | None:
        """The version with its files on this disk; None when the house has none. Fetching is stopped with the run.

        Raises NoCapableWorker `model-unavailable` when its files cannot be had now, or `model-cache-full`.
        """
        row = self._row(name, version)
        if row is None:
            return None
        key = disk_key(row)
        read = self._read.get(key)
        if read is None or not self._disk.keeps(key):
            read = self._fetched(row, key, progress.check if progress is not None else lambda: None)
        return read

    def _fetched(self, row: HousedVersion, key: str, check: Callable[[], object]) -> ModelVersion:
        size = sum(file.size for file in row.files)

        def fill(folder: Path) -> None:
            log.info("model is fetched", model=row.key, bytes=size)
            fetch_files(row.files, folder / row.name, self._objects, check, self._came)

        try:
            folder = self._disk.entry(key, size, fill, check)
        except IntegrityError:
            raise
        except DependencyError as error:
            raise NoCapableWorker(
                f"the files of {row.key} cannot be fetched now: {error.message}", code="model-unavailable"
            ) from error
        read = read_versions(folder / row.name, self._tasks, every=True)[0]
        with self._lock:
            self._read[key] = read
        return read

    def _row(self, name: str, version: int) -> HousedVersion | None:
        row = self._rows.get((name, version))
        if row is None:
            # It may have become ready within the last second.
            try:
                self.look()
            except DependencyError:
                return None
            row = self._rows.get((name, version))
        return row


def digest_of(row: HousedVersion) -> str:
    """Over names and digests of its files: a version that was removed and brought in anew is another one."""
    listed = "\n".join(sorted(f"{file.path}\0{file.sha256}" for file in row.files))
    return hashlib.sha256(listed.encode()).hexdigest()[:16]


def disk_key(row: HousedVersion) -> str:
    return f"{row.key}-{digest_of(row)}"
