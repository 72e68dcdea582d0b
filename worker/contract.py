"""The contract between the runner, the media codecs, the engine and the tasks.

A task is one file in `worker/tasks/` with `TASK = ...` in it. The runner walks every job the same way:

    claim -> fetch -> decode (media) -> task.run -> encode (media) -> store -> finish

so a task sees decoded media and a model, and never a path, a bucket, a queue or a session.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from fleet.contracts import MediaKind, ResultKind
from fleet.errors import FleetError
from fleet.tensors import DataType
from worker.run_contract import Parts, Progress, Room

__all__ = [
    "Array",
    "Encoded",
    "EncodedFile",
    "Geometry",
    "Mask",
    "Model",
    "Parts",
    "Picture",
    "Progress",
    "RequestTensor",
    "Room",
    "Shapes",
    "Signature",
    "Source",
    "Task",
    "TaskParams",
    "TaskSettings",
    "Tensor",
    "Volume",
]

Array = npt.NDArray[Any]
#: Input name -> shape.
Shapes = Mapping[str, tuple[int, ...]]
T = TypeVar("T")


class TaskSettings(BaseModel):
    """What `model.yaml` may say under `pipeline`. Unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskParams(BaseModel):
    """What a request may ask for. Its JSON Schema goes on the model's card."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Geometry:
    """The grid of a volume in physical space, in ITK's terms.

    size, spacing and origin are ordered (x, y, z); spacing and origin in mm, in the LPS patient frame;
    direction holds the 3×3 cosines row by row: column j is the direction of index axis j.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @property
    def voxel_ml(self) -> float:
        x, y, z = self.spacing
        return x * y * z / 1000.0


@dataclass
class Volume:
    """A scalar volume: `array` is [z, y, x] in its source type (int16, float32, ...)."""

    array: Array
    geometry: Geometry
    #: What the file said that a task may use: "modality" ("CT", "MR"), "source_format" ("nifti", "dicom", ...).
    #: Never patient data.
    about: dict[str, Any] = field(default_factory=dict)


@dataclass
class Mask:
    """Labels on exactly the grid of the volume they came from: `array` is uint8 or uint16 [z, y, x]."""

    array: Array
    geometry: Geometry
    labels: dict[int, str]
    #: One entry per label: value, name, voxels, volume_ml, bounding box, centroid, mean intensity.
    statistics: list[dict[str, Any]]
    #: PNG bytes of the three-plane overlay, or None when not asked for.
    preview_png: bytes | None
    #: The file format asked for: "nifti", "nrrd" or "mha".
    format: str
    #: Facts for the result, for instance {"windows": 8, "mirrored": True, "grid": [128, 128, 128]}.
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Picture:
    """One picture, upright: `array` is uint8 [height, width, 3], RGB, EXIF orientation applied, alpha composited."""

    array: Array
    #: What the request calls it: a file's name, or empty.
    name: str = ""
    #: What the file said: "format" ("jpeg", "png", ...), "mode" before it became RGB, "orientation", "warnings".
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright."""
        return int(self.array.shape[1]), int(self.array.shape[0])


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph. -1 in `shape` marks a free dimension."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class RequestTensor:
    """An input or output as requests for raw inference see it."""

    name: str
    datatype: DataType
    #: Whole, with the batch's dimension where there is one; -1 is free. None: any.
    shape: tuple[int, ...] | None
    #: Of an input: a request may leave it out.
    optional: bool = False
    #: What the graph takes or gives where that is another shape of as many elements, likewise whole.
    graph_shape: tuple[int, ...] | None = None
    #: Of an output: the name of class n is the n-th.
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """What requests for raw inference may give and get."""

    inputs: tuple[RequestTensor, ...]
    outputs: tuple[RequestTensor, ...]
    #: 0: there is no batch dimension; else the first one is, of every tensor.
    max_batch_size: int = 0


@dataclass(frozen=True)
class GraphNotes:
    """What a graph's file says besides its tensors."""

    #: `metadata_props`, as written.
    metadata: Mapping[str, str]
    #: Types of its nodes, those inside of branches and loops left out.
    operators: frozenset[str]
    #: Output -> the type of the node that made its numbers; what only reshapes or casts them is passed over.
    endings: Mapping[str, str] = field(default_factory=dict)


class Model(Protocol):
    """A loaded model as a task sees it: `run` hides session, cancellation and device."""

    name: str
    version: int
    #: Of the main graph: of several, the one that model.yaml names, else the first by name.
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    #: The execution provider that is really in use, for instance "CPUExecutionProvider".
    provider: str
    #: What `model.yaml` says under `pipeline`, parsed by the task's Settings.
    settings: Any
    #: label value -> name, from `model.yaml`.
    labels: Mapping[int, str]

    @property
    def signature(self) -> Signature:
        """Its tensors as requests see them. Raises ModelError `model-tensors` for a model that has none to give."""
        ...

    @property
    def graphs(self) -> "Mapping[str, Model]":
        """Each graph of the version as a model of its own, by its file's stem; of one graph {"model": itself}."""
        ...

    @property
    def notes(self) -> GraphNotes:
        """Read from the file at each call. Raises ModelError `model-unloadable` when it is gone."""
        ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One inference. Raises RunStopped when the job was cancelled, drained or is past its deadline."""
        ...

    def batched(self, feeds: Mapping[str, Array], most_rows: int | None = None) -> dict[str, Array]:
        """As `run`, for feeds whose first axis is that of a batch: its rows may share a run with those of other jobs.

        Answers with the rows of these feeds alone, as an unbatched run would have. Where the model's author has not
        asked for batches it is `run`. Raises RunStopped and ModelError as `run` does, for these rows alone.

        most_rows: the run is joined with no more than make so many rows together.
        """
        ...

    @property
    def max_batch_size(self) -> int:
        """Rows that `batched` takes at most; 0: the author has said nothing of batches."""
        ...

    @property
    def at_once(self) -> int:
        """Runs of this model that the device does best at the same time: so many threads of a job are of use."""
        ...

    def file(self, path: str) -> Path | None:
        """A file that belongs to the model: in its version's folder, else beside the versions; None without one."""
        ...

    def derived(self, make: "Callable[[Model], T]") -> T:
        """What `make` makes of the model, once for as long as it is loaded: a tokenizer, a table."""
        ...

    def pretend(self, cpu_s: float) -> None:
        """Waits as long as a run of `cpu_s` seconds on a CPU would take here: less on a simulated GPU that is faster.

        For trials of the fleet itself. Raises RunStopped as `run` does.
        """
        ...

    def run_bytes(self, shapes: Shapes, weigh_with: "Progress | None" = None) -> int:
        """Memory in bytes that `run` takes on inputs of these shapes, outputs included and feeds not.

        Goes by earlier runs; without any it is a generous guess. With the run's progress in `weigh_with` a guess is
        replaced by the truth, which takes some seconds: ask so before a guess makes you refuse a job.
        """
        ...


@dataclass(frozen=True)
class Source:
    """An input as fetched: `path` is ours to read, `name` only a hint; `listed`: one of a list, be it the only one."""

    path: Path
    name: str
    media_type: str
    #: Why it is not there, where one of several inputs may fail alone.
    fault: FleetError | None = None
    listed: bool = False
    #: The bytes of a small one that came with the job: nothing is at `path` then (see worker/media/placed.py).
    content: bytes | None = None


@dataclass(frozen=True)
class EncodedFile:
    """A file to store as an artifact of the job."""

    name: str
    path: Path
    media_type: str


@dataclass(frozen=True)
class Encoded:
    """What a result becomes: JSON for the record, and files for the object store."""

    result: dict[str, Any]
    files: list[EncodedFile]


class Task(Protocol):
    """One kind of inference. `run` is straight-line and leaves PREPARE / INFER / FINISH in `progress`."""

    name: ClassVar[str]
    accepts: ClassVar[MediaKind]
    returns: ClassVar[ResultKind]

    @property
    def Settings(self) -> type[TaskSettings]: ...

    @property
    def Params(self) -> type[TaskParams]: ...

    def run(self, media: Any, params: Any, model: Model, progress: Progress) -> Any: ...

    def check(self, model: Model) -> Iterator[str]:
        """What is wrong between this model's graph and its settings, one sentence each."""
        ...
