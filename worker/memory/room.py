"""Where a run keeps its large arrays: in memory, or in files of the scratch folder that the kernel may page out."""

import os
import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from worker.contract import Array


@dataclass(frozen=True)
class ArrayRoom:
    """What `Progress.admit` gives (`worker.contract.Room`). `folder` None is memory."""

    folder: Path | None = None

    @property
    def on_disk(self) -> bool:
        return self.folder is not None

    def zeros(self, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> Array:
        """Like numpy's, and the same numbers whatever is done with it. Raises OSError when the disk is full."""
        kind = np.dtype(dtype)
        if self.folder is None or prod(shape) == 0:
            return np.zeros(shape, kind)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            # A hole in the file would end the process by SIGBUS when the disk is full on first touch.
            os.posix_fallocate(file.fileno(), 0, prod(shape) * kind.itemsize)
            return np.asarray(np.memmap(file, kind, "r+", shape=shape))
