"""The run's side of the contract: what a task may ask of the run that it is in. Import it from `worker.contract`."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from fleet.contracts import Stage


class Room(Protocol):
    """Where a task's large arrays belong, as `Progress.admit` decided."""

    @property
    def on_disk(self) -> bool:
        """Whether `zeros` makes arrays in files: slower, and only what is touched at a time takes memory."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """As numpy.zeros. Raises OSError when the disk is full."""
        ...


class Parts(Protocol):
    """Finished parts of a long job, kept as objects of the job: what its later attempts need not do again.

    A part is whole or not there, and is only ever found where everything that it came of is still the same: the bytes
    of the inputs, the params, the model with its files and settings, and the execution provider. All parts go when the
    job ends. Thread-safe.
    """

    def read(self, name: str) -> bytes | None:
        """What an attempt has kept under this name; None: it is to be made. Raises RunStopped, DependencyError."""
        ...

    def keep(self, name: str, content: bytes) -> None:
        """Keeps a finished part; once this returns, no later attempt need make it. A few MiB each are best.

        name: at most 64 letters, digits, dots, dashes and underscores.
        Raises RunStopped, also when the job has become another attempt's, and DependencyError.
        """
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
        when other processes hold the memory, NoCapableWorker `memory-shared-out` (handed back) when runs that hold some
        wait for each other, and RunStopped as `check` does.
        """
        ...

    def admit_all(self) -> int:
        """Waits until no other run holds memory, and takes all that a run can have -> bytes. For the engine."""
        ...

    @property
    def folder(self) -> Path:
        """The run's own folder on the worker's disk, gone with the run: say as `scratch_bytes` what you write to it."""
        ...

    def parts(self, hinges_on: str) -> Parts:
        """Parts of the job that outlive this attempt, for a task that works for many minutes.

        hinges_on: whatever else decides what a part holds, such as its size and its format, and how the task computes.
        """
        ...
