"""One version of a model on disk: its files, what is said of it, and its card."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from fleet.card import Card
from fleet.errors import ModelError
from fleet.objects import file_digest
from fleet.tensors import TensorSpec
from worker.contract import RequestTensor, Signature, Task, TaskSettings
from worker.engine.composing import composed
from worker.engine.graph_tensors import graph_tensors
from worker.engine.manifest import Manifest
from worker.engine.signature import signature_of
from worker.triton.reading import read
from worker.triton.schema import from_json, written
from worker.triton.writing import config_of

GRAPH_NAME = "model.onnx"
#: What the only graph of a version is called.
ONLY = "model"


@runtime_checkable
class SeveralGraphs(Protocol):
    """A task whose versions may be several `*.onnx` files; it finds out by their tensors which is which."""

    several_graphs: ClassVar[bool]


@dataclass(frozen=True)
class ModelVersion:
    """One version on disk, with its task and the task's settings already parsed."""

    name: str
    version: int
    folder: Path
    manifest: Manifest
    task: Task
    settings: TaskSettings
    #: What model.yaml alone says, and the author's config.pbtxt as JSON; None without such a file.
    yaml: Manifest | None = None
    config: dict[str, Any] | None = None
    #: In words: what of it is ignored, and what was filled in.
    remarks: tuple[str, ...] = ()

    @cached_property
    def graph(self) -> Path:
        """The ONNX file; where its name is that of a folder, the one in it. Of several, the main one."""
        return main_graph(self.folder, self.manifest.graph, several=takes_several(self.task))

    @cached_property
    def graphs(self) -> Mapping[str, Path]:
        """Name -> ONNX file: of a task that takes several, all in the folder; a main one that lies deeper is alone."""
        found = graphs_in(self.folder) if takes_several(self.task) else {}
        return found if len(found) > 1 and self.graph in found.values() else {ONLY: self.graph}

    @property
    def main(self) -> str:
        """Which of `graphs` the `graph` is."""
        return next(name for name, path in self.graphs.items() if path == self.graph)

    @cached_property
    def signature(self) -> Signature:
        """What requests for raw inference see of it. Raises ModelError for tensors that no request can hold.

        Those of several graphs are no request's: what leads from one to the other is known to the task alone.
        """
        if len(self.graphs) > 1:
            raise ModelError(
                f"the model is {len(self.graphs)} graphs ({', '.join(self.graphs)}), and raw inference is for models "
                f"of one: ask for its task, {self.task.name}",
                code="model-tensors",
            )
        return signature_of(self.manifest, graph_tensors(self.graph), (self.folder.parent, self.folder))

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
        try:
            signature = self.signature
        except ModelError:
            # A task may know what to do with tensors that no request can hold.
            signature = None
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
            inputs=[_shown(tensor) for tensor in signature.inputs] if signature else [],
            outputs=[_shown(tensor) for tensor in signature.outputs] if signature else [],
            max_batch_size=manifest.batching.max_batch_size,
            config=config_of(self.name, manifest, signature, self.config),
            example=None if manifest.example is None else manifest.example.model_dump(mode="json"),
        )


def _shown(tensor: RequestTensor) -> TensorSpec:
    shape = [-1] if tensor.shape is None else list(tensor.shape)
    return TensorSpec(name=tensor.name, datatype=tensor.datatype, shape=shape, optional=tensor.optional)


def overridden(version: ModelVersion, config: dict[str, Any]) -> ModelVersion:
    """The version under another configuration, which stands in the place of its config.pbtxt and above its model.yaml.

    config: Triton's JSON, 64-bit integers as numbers or text. Raises ModelError `config-invalid`.
    """
    message = from_json(config)
    says_batch_size = not {"max_batch_size", "maxBatchSize"}.isdisjoint(config)
    said = read(message, says_batch_size, version.name)
    whole = composed(lambda: graph_tensors(version.graph), version.yaml, said, override=True)
    if whole.manifest.task != version.task.name:
        raise ModelError("a configuration cannot change the model's task", code="config-invalid")
    return replace(version, manifest=whole.manifest, config=written(message), remarks=whole.remarks)


def graph_in(folder: Path, name: str) -> Path:
    return folder / name / GRAPH_NAME if (folder / name).is_dir() else folder / name


def graphs_in(folder: Path) -> dict[str, Path]:
    """All graphs of a version's folder, by their names without `.onnx`."""
    found = sorted(entry.name for entry in folder.glob("*.onnx") if not entry.name.startswith("."))
    paths = {name.removesuffix(".onnx"): graph_in(folder, name) for name in found}
    return {name: path for name, path in paths.items() if path.is_file()}


def main_graph(folder: Path, name: str, *, several: bool) -> Path:
    """The one that model.yaml names, whether it is there or not; where several may be, the first of them instead."""
    named = graph_in(folder, name)
    return named if named.is_file() or not several else next(iter(graphs_in(folder).values()), named)


def takes_several(task: object) -> bool:
    return isinstance(task, SeveralGraphs) and task.several_graphs
