"""The contract between the runner, the media codecs, the engine and the tasks.

A task is one file in `worker/tasks/` with `TASK = ...` in it. The runner walks every job the same way:

    claim -> fetch -> decode (media) -> task.run -> encode (media) -> store -> finish

so a task sees decoded media and a model, and never a path, a bucket, a queue or a session.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from fleet.contracts import MediaKind, ResultKind, Stage

Array = npt.NDArray[Any]
#: Input name -> shape.
Shapes = Mapping[str, tuple[int, ...]]


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


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph. -1 in `shape` marks a free dimension."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Model(Protocol):
    """A loaded model as a task sees it: `run` hides session, cancellation and device."""

    name: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    #: The execution provider that is really in use, for instance "CPUExecutionProvider".
    provider: str
    #: What `model.yaml` says under `pipeline`, parsed by the task's Settings.
    settings: Any
    #: label value -> name, from `model.yaml`.
    labels: Mapping[int, str]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One inference. Raises RunStopped when the job was cancelled, drained or is past its deadline."""
        ...

    def batched(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """As `run`, for feeds whose first axis is that of a batch: its rows may share a run with those of other jobs.

        Answers with the rows of these feeds alone, as an unbatched run would have. Where the model's author has not
        asked for batches it is `run`. Raises RunStopped and ModelError as `run` does, for these rows alone.
        """
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


class Room(Protocol):
    """Where a task's large arrays belong, as `Progress.admit` decided."""

    @property
    def on_disk(self) -> bool:
        """Whether `zeros` makes arrays in files: slower, and only what is touched at a time takes memory."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """As numpy.zeros. Raises OSError when the disk is full."""
        ...


class Progress(Protocol):
    """How a task tells where it is, and what memory it needs.

    All calls are cheap; call `check` in long loops of our own code, and `admit` before you allocate.
    """

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """Times the block under that stage, and shows the stage to the user. Stages may repeat: they add up."""
        ...

    def advance(self, done: int, total: int) -> None:
        """`done` of `total` equal steps of the inference are finished."""
        ...

    def check(self) -> None:
        """Raises RunStopped when the run should end."""
        ...

    @property
    def memory_bytes(self) -> int:
        """The most that a run may hold on this worker."""
        ...

    def admit(self, what: str, peak_bytes: int, *, lean_bytes: int | None = None, scratch_bytes: int = 0) -> Room:
        """Asks for all the memory that this run will hold at once from here on, in place of what it had asked for.

        Call it once the sizes are known and before anything large exists: with every array at its peak, the model's
        `run_bytes`, and what becomes of the result, since it holds until the run ends. Small runs (a few MiB) need
        not ask. Waits until there is room beside the other runs.

        what: begins the sentence of a refusal, for instance "a volume of 512 × 512 × 300 voxels".
        lean_bytes: the peak when arrays made by the room's `zeros` do not count; give it if you make your large ones
        so, and a run that would not fit otherwise keeps them on disk.
        scratch_bytes: files that the run keeps on the worker's disk; they count where that disk is memory.

        Raises InputTooLarge `not-enough-memory` for what can never fit, DependencyError `memory-busy` (tried again)
        when other processes hold the memory, and RunStopped as `check` does.
        """
        ...

    def admit_all(self) -> int:
        """Waits until no other run holds memory, and takes all that a run can have -> bytes. For the engine."""
        ...


@dataclass(frozen=True)
class Source:
    """An input on local disk, as fetched: `path` is ours to read, `name` only a hint (may be empty)."""

    path: Path
    name: str
    media_type: str


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
    Settings: type[TaskSettings]
    Params: type[TaskParams]

    def run(self, media: Any, params: Any, model: Model, progress: Progress) -> Any: ...

    def check(self, model: Model) -> Iterator[str]:
        """What is wrong between this model's graph and its settings, one sentence each."""
        ...
