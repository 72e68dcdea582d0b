"""The worker's own folder of models, read again when it has changed: adding a model is adding a folder."""

import threading
from collections.abc import Mapping
from pathlib import Path

from fleet.errors import ModelError
from fleet.logs import get_logger
from worker.contract import Task
from worker.engine.model_folder import model_folders, read_versions
from worker.engine.model_version import ModelVersion

Key = tuple[str, int]
#: Path, size and time of change of everything that is looked at.
_State = tuple[tuple[str, int, int], ...]
#: Deeper than a version's folder nothing is looked at: what lies there comes and goes with it.
_PATTERNS = ("*", "*/*")
log = get_logger(__name__)


class FolderShelf:
    """Thread-safe. Broken folders are logged and left out; what could be read once is not read again."""

    def __init__(self, root: Path, tasks: Mapping[str, Task]) -> None:
        self.root = root
        self._tasks = tasks
        self._lock = threading.Lock()
        self._versions: dict[Key, ModelVersion] | None = None
        #: By folder: its state when it was read, and what was found then.
        self._read: dict[Path, tuple[_State, list[ModelVersion]]] = {}
        self._seen: dict[Path, _State] = {}

    @property
    def versions(self) -> dict[Key, ModelVersion]:
        """Raises ModelError `repository-missing` when the folder cannot be read for the first time."""
        with self._lock:
            if self._versions is None:
                self._seen = {folder: _state(folder) for folder in model_folders(self.root)}
                self._versions = self._gathered(self._seen)
            return self._versions

    def look(self) -> bool:
        """Reads what has changed and is still the same as at the look before: nothing is read while it is copied."""
        before = self.versions
        try:
            seen = {folder: _state(folder) for folder in model_folders(self.root)}
        except (ModelError, OSError):
            # A share that is away for a moment takes no model with it.
            return False
        with self._lock:
            last, self._seen = self._seen, seen
            if seen != last or (
                all(self._is_read(folder, state) for folder, state in seen.items())
                and (self._read.keys() == seen.keys())
            ):
                return False
            self._versions = self._gathered(seen)
            return self._versions != before

    def _is_read(self, folder: Path, state: _State) -> bool:
        return folder in self._read and self._read[folder][0] == state

    def _gathered(self, states: dict[Path, _State]) -> dict[Key, ModelVersion]:
        read: dict[Path, tuple[_State, list[ModelVersion]]] = {}
        for folder, state in states.items():
            read[folder] = self._read[folder] if self._is_read(folder, state) else (state, self._versions_in(folder))
        self._read = read
        return {(version.name, version.version): version for _, versions in read.values() for version in versions}

    def _versions_in(self, folder: Path) -> list[ModelVersion]:
        try:
            return read_versions(folder, self._tasks)
        except ModelError as error:
            log.error("model folder left out", model=folder.name, code=error.code, reason=error.message)
        except OSError as error:
            log.error("model folder left out", model=folder.name, reason=error.strerror)
        except Exception:
            # One folder, whatever is in it, keeps no worker from serving the others.
            log.exception("model folder left out", model=folder.name)
        return []


def _state(folder: Path) -> _State:
    found = []
    for path in [folder, *(entry for pattern in _PATTERNS for entry in folder.glob(pattern))]:
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))
