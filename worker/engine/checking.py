"""Whether a model's folder can be served: what was found in it, what was filled in, and what is wrong.

Loads every version on the CPU, compares what is declared with the graph, warms up and answers the example.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import ValidationError

from fleet.contracts import MediaKind
from fleet.errors import FleetError, ModelError, RunStopped
from fleet.objects import file_digest
from fleet.settings import CPU_PROVIDER
from fleet.tensors import MEDIA_TYPE
from worker.codecs import Codecs
from worker.contract import Model, Progress, RequestTensor, Source
from worker.engine.declared import faults_of
from worker.engine.derivation import origin_of
from worker.engine.feeds import described
from worker.engine.graph_tensors import graph_tensors
from worker.engine.loaded import LoadedModel
from worker.engine.manifest import MANIFEST_NAME, Manifest, faults
from worker.engine.model_folder import read_folder
from worker.engine.model_version import ModelVersion
from worker.engine.session import SessionSetup
from worker.engine.signature import signature_of
from worker.engine.warming import warm
from worker.house.weights import missing_in
from worker.media.limits import VolumeLimits
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks import find_tasks

#: Beside model.yaml: the inputs that `example.inputs` names.
EXAMPLE_FOLDER = "example"
_LAYER = re.compile(r"\d+")


@runtime_checkable
class Telling(Protocol):
    """A task that can say what it found out about a model: which kind it is, how it is fed."""

    def told(self, model: Model) -> Iterator[str]:
        """One sentence each, about a model that `check` has nothing against."""
        ...


@dataclass
class VersionFindings:
    """Of one version, for people."""

    key: str
    task: str
    inputs: list[str]
    outputs: list[str]
    max_batch_size: int
    providers: list[str]
    remarks: list[str]
    faults: list[str] = field(default_factory=list)
    #: How many warm-up runs were done, and whether the example was answered; None where there is none.
    warmup_runs: int = 0
    example_answered: bool | None = None


@dataclass
class Findings:
    """Of a folder."""

    folder: Path
    #: What concerns all versions, or keeps one from being read.
    general: list[str] = field(default_factory=list)
    versions: list[VersionFindings] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """All that is wrong, one sentence each; empty when the folder can be served."""
        return [*self.general, *(f"{it.key}: {fault}" for it in self.versions for fault in it.faults)]


def inspect(folder: Path) -> Findings:
    findings = Findings(folder)
    try:
        versions, unread = read_folder(folder.resolve(), find_tasks())
    except ModelError as error:
        findings.general.append(error.message)
        return findings
    findings.general += [fault.message for fault in unread]
    findings.versions += [_inspected(version) for version in versions]
    return findings


def _inspected(version: ModelVersion) -> VersionFindings:
    manifest = version.manifest
    found = VersionFindings(
        version.key,
        version.task.name,
        *_tensors(version),
        max_batch_size=manifest.batching.max_batch_size,
        providers=["auto"] if manifest.onnx.providers == "auto" else list(manifest.onnx.providers),
        remarks=list(version.remarks),
    )
    if missing := missing_in(version.folder, manifest.source.files):
        found.faults += [
            f"{file.path} ({file.size:,} bytes) is not in the folder: `fleet models pull {version.name}` brings it, "
            "and a worker fetches it by itself"
            for file in missing
        ]
        return found
    announced = manifest.source.sha256
    if announced not in (None, origin_of(version.folder, file_digest(version.graph))):
        found.faults.append(f"{version.graph.name} has not the SHA-256 {announced} that {MANIFEST_NAME} announces")
        return found
    try:
        found.faults += _tried(version, found)
    except FleetError as error:
        found.faults.append(error.message)
    return found


def _tensors(version: ModelVersion) -> tuple[list[str], list[str]]:
    if len(version.graphs) > 1:
        graphs = {name: signature_of(Manifest(task=""), graph_tensors(path)) for name, path in version.graphs.items()}
        inputs = [line for name, graph in graphs.items() for line in _listed(name, graph.inputs)]
        return inputs, [line for name, graph in graphs.items() for line in _listed(name, graph.outputs)]
    try:
        signature = version.signature
    except ModelError:
        return [], []
    return list(map(_shown, signature.inputs)), list(map(_shown, signature.outputs))


def _listed(graph: str, tensors: Sequence[RequestTensor]) -> Iterator[str]:
    """Of those that differ by numbers in their names alone, such as a layer's, the first one for all."""
    alike: dict[tuple[str, str], list[str]] = {}
    for tensor in tensors:
        alike.setdefault((_LAYER.sub("", tensor.name), described(tensor)), []).append(_shown(tensor))
    for first, *others in alike.values():
        yield f"{graph}: {first}{f' and {len(others)} like it' if others else ''}"


def _shown(tensor: RequestTensor) -> str:
    notes = [
        " (optional)" if tensor.optional else "",
        f", reshaped to {list(tensor.graph_shape)}" if tensor.graph_shape is not None else "",
        f", {len(tensor.classes)} class names" if tensor.classes else "",
    ]
    return f"{tensor.name} {described(tensor)}{''.join(notes)}"


def _tried(version: ModelVersion, found: VersionFindings) -> Iterator[str]:
    options = version.manifest.onnx
    setup = SessionSetup(
        [CPU_PROVIDER],
        graph_optimization=options.graph_optimization,
        config=options.session_config,
        spin=len(version.graphs) == 1,
    )
    loaded = LoadedModel.opened(version, setup)
    model: Model = loaded.for_run(StopToken())
    wrong = [*faults_of(version, loaded.session.inputs, loaded.session.outputs), *version.task.check(model)]
    yield from wrong
    if wrong:
        return
    if isinstance(version.task, Telling):
        found.remarks += version.task.told(model)
    found.warmup_runs = warm(version, {name: graph.run for name, graph in model.graphs.items()})
    if version.manifest.example is not None:
        with tempfile.TemporaryDirectory(prefix="fleet-check-") as scratch:
            codecs = Codecs(VolumeLimits(), Path(scratch))
            try:
                answer_example(version, model, codecs, JobProgress(StopToken(), Path(scratch)), Path(scratch))
            finally:
                codecs.close()
        found.example_answered = True


def answer_example(
    version: ModelVersion, model: Model, codecs: Codecs, progress: Progress, scratch: Path
) -> dict[str, object]:
    """Walks the manifest's example through the model's task, from its files to the result that a record would hold.

    Raises ModelError `example-failed`, RunStopped as the progress does.
    """
    example, task = version.manifest.example, version.task
    if example is None:
        raise ModelError(f"{version.key} has no example", code="example-failed")
    media_type = MEDIA_TYPE if task.accepts is MediaKind.TENSORS else "application/octet-stream"
    folder = version.folder.parent / EXAMPLE_FOLDER
    sources = [Source(folder / name, name, media_type) for name in example.inputs]
    if missing := [source.name for source in sources if not source.path.is_file()]:
        raise ModelError(
            f"the example names {', '.join(missing)}, and {EXAMPLE_FOLDER}/ does not hold it", code="example-failed"
        )
    try:
        params = task.Params.model_validate(example.params)
        media = codecs.decode(task.accepts, sources, params, progress)
        outcome = task.run(media, params, model, progress)
        return codecs.encode(task.returns, outcome, scratch).result
    except RunStopped:
        raise
    except FleetError as error:
        raise ModelError(f"the example was not answered: {error.message}", code="example-failed") from error
    except ValidationError as error:
        raise ModelError(f"the example's params: {faults(error)}", code="example-failed") from error
