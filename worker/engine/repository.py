"""The model repository: which models exist here. What is loaded is the registry's business.

Two shelves: the worker's own folder, and the house (`worker/house/shelf.py`), which all workers share. A version that
stands on both is the house's: its bytes are the same everywhere, and a folder's need not be.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fleet.errors import NotFound
from fleet.logs import get_logger
from worker.contract import Progress, Task
from worker.engine.folder_shelf import FolderShelf
from worker.engine.model_version import ModelVersion

Key = tuple[str, int]
log = get_logger(__name__)


class House(Protocol):
    """What models from outside look like here."""

    @property
    def keys(self) -> frozenset[Key]: ...

    def look(self) -> bool: ...

    def get(self, name: str, version: int, progress: Progress | None) -> ModelVersion | None: ...


class Weights(Protocol):
    """What completes a version whose weights do not lie in its folder."""

    def complete(self, version: ModelVersion, progress: Progress | None) -> ModelVersion: ...


class Repository:
    """Thread-safe. Broken folders are logged and left out."""

    def __init__(
        self, root: Path, tasks: Mapping[str, Task], house: House | None = None, weights: Weights | None = None
    ) -> None:
        self.root = root
        self._folder = FolderShelf(root, tasks)
        self._house = house
        self._weights = weights
        self._hidden: frozenset[Key] = frozenset()

    @property
    def versions(self) -> dict[Key, ModelVersion]:
        """Those of the folder: without what the house has, too."""
        housed = self._house.keys if self._house is not None else frozenset()
        found = self._folder.versions
        hidden = housed & found.keys()
        if hidden != self._hidden:
            self._hidden = frozenset(hidden)
            for name, version in sorted(hidden):
                log.warning("the folder's version is not served: the house has it, too", model=f"{name}/{version}")
        return {key: version for key, version in found.items() if key not in hidden}

    @property
    def keys(self) -> list[str]:
        """ "name/version" of everything that can be served here."""
        housed = self._house.keys if self._house is not None else frozenset()
        return sorted(f"{name}/{version}" for name, version in {*self.versions, *housed})

    def look(self) -> bool:
        """Reads the folder again where it has changed; whether it has."""
        return self._folder.look()

    def get(self, name: str, version: int, progress: Progress | None = None) -> ModelVersion:
        """With all its files here: what is not is fetched, and fetching ends with the run of `progress`.

        Raises NotFound `model-not-found`, NoCapableWorker when the files cannot be had now, and ModelError.
        """
        found = self.versions.get((name, version))
        if found is not None:
            return found if self._weights is None else self._weights.complete(found, progress)
        housed = self._house.get(name, version, progress) if self._house is not None else None
        if housed is not None:
            return housed
        raise NotFound(f"this worker does not hold model {name!r} in version {version}", code="model-not-found")
