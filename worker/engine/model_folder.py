"""A model's folder: its versions, its graphs, and what is wrong with them.

models/<name>/model.yaml
models/<name>/<version>/model.onnx      version = positive integer; external data lies beside the graph
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fleet.card import Card
from fleet.contracts import ModelName
from fleet.errors import FleetError, ModelError
from fleet.logs import get_logger
from fleet.objects import file_digest
from fleet.settings import CPU_PROVIDER
from worker.contract import Model, Task, TaskSettings
from worker.engine.manifest import MANIFEST_NAME, Manifest, faults, read_manifest
from worker.engine.session import Session, SessionSetup
from worker.stop import StopToken

GRAPH_NAME = "model.onnx"
_NAME = TypeAdapter(ModelName)
log = get_logger(__name__)


@dataclass(frozen=True)
class ModelVersion:
    """One version on disk, with its task and the task's settings already parsed."""

    name: str
    version: int
    folder: Path
    manifest: Manifest
    task: Task
    settings: TaskSettings

    @property
    def graph(self) -> Path:
        return self.folder / GRAPH_NAME

    @property
    def key(self) -> str:
        return f"{self.name}/{self.version}"

    @cached_property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._files())

    @cached_property
    def sha256(self) -> str:
        """Over the names and bytes of all files of the version, the graph and its external data alike."""
        hasher = hashlib.sha256()
        for file in self._files():
            hasher.update(f"{file.relative_to(self.folder).as_posix()}\0{file_digest(file)}\n".encode())
        return hasher.hexdigest()

    def _files(self) -> list[Path]:
        return sorted(file for file in self.folder.rglob("*") if file.is_file())

    def card(self) -> Card:
        manifest = self.manifest
        return Card(
            name=self.name,
            version=self.version,
            task=self.task.name,
            description=manifest.description,
            licence=manifest.licence,
            accepts=self.task.accepts,
            returns=self.task.returns,
            params_schema=self.task.Params.model_json_schema(),
            lane=manifest.lane,
            device=manifest.device,
            size_bytes=self.size_bytes,
            sha256=self.sha256,
            labels=manifest.labels,
            execution_timeout_s=manifest.execution_timeout_s,
            deadline_s=manifest.deadline_s,
            max_attempts=manifest.max_attempts,
            expected_s=manifest.expected_s,
        )


def model_folders(root: Path) -> list[Path]:
    """The folders that look like models. Raises ModelError when the root is missing."""
    if not root.is_dir():
        raise ModelError(
            f"the model repository {root} does not exist: set MODELS_PATH to a folder of models",
            code="repository-missing",
        )
    return sorted(folder for folder in root.iterdir() if (folder / MANIFEST_NAME).is_file())


def read_versions(folder: Path, tasks: Mapping[str, Task]) -> list[ModelVersion]:
    """Every version of a model folder. Raises ModelError with what is wrong and where."""
    try:
        _NAME.validate_python(folder.name)
    except ValidationError as error:
        raise ModelError(
            f"the folder name {folder.name!r} cannot be a model's name: use letters, digits, '.', '_' and '-'",
            code="model-name-invalid",
        ) from error
    manifest = read_manifest(folder)
    task = tasks.get(manifest.task)
    if task is None:
        known = ", ".join(sorted(tasks))
        raise ModelError(
            f"{folder.name}: there is no task {manifest.task!r}; known tasks: {known}", code="task-unknown"
        )
    try:
        settings = task.Settings.model_validate(manifest.pipeline)
    except ValidationError as error:
        raise ModelError(f"{folder.name}/{MANIFEST_NAME}: pipeline.{faults(error)}", code="manifest-invalid") from error
    numbers = sorted(int(entry.name) for entry in folder.iterdir() if _is_version(entry))
    if not numbers:
        raise ModelError(f"{folder.name}: there is no version folder such as 1/{GRAPH_NAME}", code="model-empty")
    return [ModelVersion(folder.name, n, folder / str(n), manifest, task, settings) for n in numbers]


def _is_version(entry: Path) -> bool:
    return entry.name.isdigit() and not entry.name.startswith("0") and (entry / GRAPH_NAME).is_file()


def check_model(folder: Path) -> list[str]:
    """What is wrong with a model folder, one sentence each; empty when it can be served. Loads every version."""
    from worker.tasks import find_tasks

    try:
        versions = read_versions(folder, find_tasks())
    except ModelError as error:
        return [error.message]
    return [fault for version in versions for fault in _check_version(version)]


def _check_version(version: ModelVersion) -> list[str]:
    from worker.engine.loaded import LoadedModel

    announced = version.manifest.source.sha256
    if announced not in (None, file_digest(version.graph)):
        return [f"{version.key}: {GRAPH_NAME} has not the SHA-256 {announced} that {MANIFEST_NAME} announces"]
    try:
        setup = SessionSetup([CPU_PROVIDER], graph_optimization=version.manifest.onnx.graph_optimization)
        model: Model = LoadedModel(version, Session(version.graph, setup), setup).for_run(StopToken())
        return [f"{version.key}: {fault}" for fault in version.task.check(model)]
    except FleetError as error:
        return [f"{version.key}: {error.message}"]
