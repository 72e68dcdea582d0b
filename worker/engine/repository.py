"""The model repository: which models exist here. What is loaded is the registry's business."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from fleet.errors import ModelError, NotFound
from fleet.logs import get_logger
from worker.contract import Task
from worker.engine.model_folder import ModelVersion, model_folders, read_versions

log = get_logger(__name__)


class Repository:
    """The folder of models. `versions` is read once; broken folders are logged and left out."""

    def __init__(self, root: Path, tasks: Mapping[str, Task]) -> None:
        self.root = root
        self._tasks = tasks

    @cached_property
    def versions(self) -> dict[tuple[str, int], ModelVersion]:
        found: dict[tuple[str, int], ModelVersion] = {}
        for folder in model_folders(self.root):
            try:
                for version in read_versions(folder, self._tasks):
                    found[version.name, version.version] = version
            except ModelError as error:
                log.error("model folder left out", model=folder.name, code=error.code, reason=error.message)
        return found

    def get(self, name: str, version: int) -> ModelVersion:
        """Raises NotFound `model-not-found`."""
        try:
            return self.versions[name, version]
        except KeyError as error:
            raise NotFound(
                f"this worker does not hold model {name!r} in version {version}", code="model-not-found"
            ) from error
