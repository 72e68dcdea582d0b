"""Reads one input as a volume. Called by worker/codecs.py for tasks that accept volumes."""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from fleet.errors import InputTooLarge
from worker.contract import Progress, Source, Volume
from worker.media.decode import Decoded
from worker.media.limits import VolumeLimits
from worker.media.sandbox import Sandbox


class VolumeReader:
    """One per worker process; thread-safe. `scratch` is a folder for temporary files, gone after each read."""

    def __init__(self, limits: VolumeLimits, scratch: Path) -> None:
        self._limits = limits
        self._scratch = scratch
        self._sandbox = Sandbox()

    def prewarm(self) -> None:
        """Starts a decoding process ahead of the first job, without waiting for it."""
        self._sandbox.prewarm()

    def close(self) -> None:
        """Ends the idle decoding processes."""
        self._sandbox.close()

    def read(self, source: Source, progress: Progress, series_uid: str | None = None) -> Volume:
        """The only volume of this source; `series_uid` chooses among several DICOM series.

        Raises an InputError with a stable code for bad input and for one that this worker has not the memory to read
        (see `Progress.admit`), and RunStopped from `progress.check`, which also
        ends the decoding. The array is read-only and mapped from a file that is already unlinked.
        """
        if source.path.is_file() and source.path.stat().st_size > self._limits.max_bytes:
            raise InputTooLarge(
                f"the file has {source.path.stat().st_size:,} bytes; the limit is {self._limits.max_bytes:,}",
                code="too-many-bytes",
                limit=self._limits.max_bytes,
            )
        folder = Path(tempfile.mkdtemp(prefix="decode-", dir=self._scratch))
        try:
            decoded = self._decoded(source, folder, progress, series_uid)
            x, y, z = decoded.geometry.size
            array = np.memmap(decoded.voxels, dtype=decoded.dtype, mode="r", shape=(z, y, x))
            return Volume(array, decoded.geometry, decoded.about)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _decoded(self, source: Source, folder: Path, progress: Progress, series_uid: str | None) -> Decoded:
        """Memory is asked for when the child has seen the header, and given back when it is done."""
        present = source.path.stat().st_size if source.path.is_file() else 0

        def admit(what: str, memory_bytes: int, scratch_bytes: int) -> None:
            progress.admit(what, memory_bytes, scratch_bytes=present + scratch_bytes)

        decoded = self._sandbox.decode(source.path, self._limits, folder, series_uid, progress.check, admit=admit)
        progress.admit("", 0, scratch_bytes=present + decoded.voxels.stat().st_size)
        return decoded
