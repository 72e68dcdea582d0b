"""A model's folder: its versions, and what is said of them. The layout is Triton's.

models/<name>/model.yaml                what Triton does not know: task, pipeline, texts; or all of it
models/<name>/config.pbtxt              as Triton has it; neither file is needed for raw inference
models/<name>/<version>/model.onnx      version = positive integer; external data lies beside the graph,
                                        or both lie in a folder of the name `model.onnx`
models/<name>/<version>/*.onnx          of a task that takes several graphs: all of them, whatever they are called
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fleet.contracts import ModelName
from fleet.errors import ModelError
from fleet.logs import get_logger
from fleet.model_names import MAX_VERSION
from worker.contract import Task, TaskSettings
from worker.engine.composing import composed
from worker.engine.graph_tensors import graph_tensors
from worker.engine.manifest import MANIFEST_NAME, Manifest, VersionPolicy, read_manifest
from worker.engine.model_version import (
    GRAPH_NAME,
    ModelVersion,
    graph_in,
    graphs_in,
    main_graph,
    overridden,
    takes_several,
)
from worker.engine.yaml_lines import located
from worker.triton.reading import Said, read
from worker.triton.schema import CONFIG_NAME, parse, written

__all__ = ["GRAPH_NAME", "ModelVersion", "check_model", "model_folders", "overridden", "read_folder", "read_versions"]

_NAME = TypeAdapter(ModelName)
log = get_logger(__name__)


def model_folders(root: Path) -> list[Path]:
    """The folders that look like models. Raises ModelError when the root is missing."""
    if not root.is_dir():
        raise ModelError(
            f"the model repository {root} does not exist: set MODELS_PATH to a folder of models",
            code="repository-missing",
        )
    return sorted(folder for folder in root.iterdir() if folder.is_dir() and _looks_like_a_model(folder))


def _looks_like_a_model(folder: Path) -> bool:
    files = (MANIFEST_NAME, CONFIG_NAME)
    return any((folder / name).is_file() for name in files) or bool(_numbers(folder, GRAPH_NAME))


def read_versions(folder: Path, tasks: Mapping[str, Task], *, every: bool = False) -> list[ModelVersion]:
    """The versions of a model folder that its policy serves; one that is broken is logged and left out.

    every: all that are there, for folders of versions that were brought in one by one.

    Raises ModelError with what is wrong and where, when none is left.
    """
    versions, faults = read_folder(folder, tasks, every=every)
    if not versions:
        raise faults[0]
    for fault in faults:
        log.error("model version left out", model=folder.name, code=fault.code, reason=fault.message)
    return versions


def read_folder(
    folder: Path, tasks: Mapping[str, Task], *, every: bool = False
) -> tuple[list[ModelVersion], list[ModelError]]:
    """The versions that can be read, and what is wrong with the others. Raises ModelError for what concerns all."""
    name = folder.name
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise ModelError(
            f"the folder name {name!r} cannot be a model's name: use letters, digits, '.', '_' and '-'",
            code="model-name-invalid",
        ) from error
    found = _Found.in_folder(folder)
    numbers = _numbers(folder, found.graph_name, several=found.takes_several(tasks))
    if not numbers:
        raise ModelError(f"{name}: there is no version folder such as 1/{found.graph_name}", code="model-empty")
    served = numbers if every else _served(numbers, found.policy)
    if not served:
        wanted = ", ".join(map(str, found.policy.specific or []))
        raise ModelError(
            f"{name}: its version policy serves {wanted}, and there are {', '.join(map(str, numbers))}",
            code="model-empty",
        )
    versions, faults = [], []
    for number in served:
        try:
            versions.append(_composed(found, number, tasks))
        except ModelError as error:
            faults.append(ModelError(f"{name}/{number}: {error.message}", code=error.code, **error.facts))
    return versions, faults


@dataclass(frozen=True)
class _Config:
    """What config.pbtxt says, for us and as it was written."""

    said: Said
    written: dict[str, Any]


@dataclass(frozen=True)
class _Found:
    """The files beside the versions, read."""

    folder: Path
    yaml: Manifest | None
    config: _Config | None

    @classmethod
    def in_folder(cls, folder: Path) -> "_Found":
        yaml = read_manifest(folder) if (folder / MANIFEST_NAME).is_file() else None
        return cls(folder, yaml, _read_config(folder))

    @property
    def graph_name(self) -> str:
        said = self.config.said.fields.get("graph") if self.config else None
        return str(said or (self.yaml.graph if self.yaml else GRAPH_NAME))

    def takes_several(self, tasks: Mapping[str, Task]) -> bool:
        """Whether a version may be several graphs; only model.yaml can name such a task."""
        return self.yaml is not None and takes_several(tasks.get(self.yaml.task))

    @property
    def policy(self) -> VersionPolicy:
        """Triton serves the newest version where its own file says nothing; model.yaml alone serves all."""
        said = self.config.said.fields.get("versions") if self.config else None
        if said is not None:
            return VersionPolicy.model_validate(said)
        if self.yaml is not None and (self.config is None or "versions" in self.yaml.model_fields_set):
            return self.yaml.versions
        return VersionPolicy(latest=1)


def _read_config(folder: Path) -> _Config | None:
    path = folder / CONFIG_NAME
    if not path.is_file():
        return None
    try:
        text = path.read_text("utf-8")
        message, says_batch_size = parse(text)
        return _Config(read(message, says_batch_size, folder.name, text), written(message))
    except UnicodeDecodeError as error:
        raise ModelError(f"{folder.name}/{CONFIG_NAME} is not UTF-8", code="config-invalid") from error
    except ModelError as error:
        raise ModelError(f"{folder.name}/{CONFIG_NAME}: {error.message}", code=error.code, **error.facts) from error


def _composed(found: _Found, number: int, tasks: Mapping[str, Task]) -> ModelVersion:
    folder, config = found.folder, found.config
    graph = main_graph(folder / str(number), found.graph_name, several=found.takes_several(tasks))
    whole = composed(lambda: graph_tensors(graph), found.yaml, config.said if config else None)
    task = _task_of(whole.manifest, tasks)
    return ModelVersion(
        folder.name,
        number,
        folder / str(number),
        whole.manifest,
        task,
        _settings_of(whole.manifest, task, folder / MANIFEST_NAME),
        found.yaml,
        config.written if config else None,
        whole.remarks,
    )


def _task_of(manifest: Manifest, tasks: Mapping[str, Task]) -> Task:
    task = tasks.get(manifest.task)
    if task is None:
        known = ", ".join(sorted(tasks))
        raise ModelError(f"there is no task {manifest.task!r}; known tasks: {known}", code="task-unknown")
    return task


def _settings_of(manifest: Manifest, task: Task, path: Path) -> TaskSettings:
    try:
        return task.Settings.model_validate(manifest.pipeline)
    except ValidationError as error:
        raise ModelError(f"{MANIFEST_NAME}: {located(path, error, ['pipeline'])}", code="manifest-invalid") from error


def _served(numbers: list[int], policy: VersionPolicy) -> list[int]:
    if policy.specific is not None:
        return [number for number in numbers if number in policy.specific]
    return numbers if policy.latest is None else numbers[-policy.latest :]


def _numbers(folder: Path, graph_name: str, *, several: bool = False) -> list[int]:
    """Those of the folders in it that hold a graph; what is no version's number, such as 01, is passed over."""
    return sorted(
        int(entry.name)
        for entry in folder.iterdir()
        if entry.name.isascii()
        and entry.name.isdigit()
        and not entry.name.startswith("0")
        and int(entry.name[:11]) <= MAX_VERSION
        and (graph_in(entry, graph_name).is_file() or (several and graphs_in(entry)))
    )


def check_model(folder: Path) -> list[str]:
    """What is wrong with a model folder, one sentence each; empty when it can be served. Loads every version."""
    from worker.engine.checking import inspect

    return inspect(folder).faults
