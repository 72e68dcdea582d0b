"""Pictures that are too large for memory, as the worker sees them: decoded to a file, of which parts are read.

    file -> a process of its own, band by band -> raw pixels in the scratch folder -> an array that lies on disk

That file has no name: it is gone with the last array that shows it, or with the worker.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from worker.contract import Picture
from worker.media.child import Child, crashed, raise_fault
from worker.media.picture_limits import PictureLimits
from worker.media.picture_pixels import Alpha
from worker.pictures.items import Admit
from worker.pictures.on_disk import BAND_BYTES, mapped


@dataclass(frozen=True)
class Spill:
    """Where such pictures lie, and how large they may be."""

    limits: PictureLimits
    scratch: Path

    def read(self, path: Path, alpha: Alpha, admit: Admit, check: Callable[[], None]) -> Picture:
        """Raises what `admit` and `check` raise, an InputError for what is wrong with the file, and DependencyError

        `worker-disk` when the disk is full.
        """
        with tempfile.TemporaryFile(dir=self.scratch, prefix="pixels-") as file:
            child = Child("worker.media.band_child", [str(file.fileno())], [file.fileno()])
            try:
                request = {"path": str(path), "alpha": alpha, "limits": asdict(self.limits)}
                answer = child.ask(request, self.limits.max_seconds, check, admit)
            finally:
                # Before the file is looked at: nobody can write to it any more.
                child.kill()
            raise_fault(answer)
            if "spilled" not in answer:
                raise crashed()
            told = answer["spilled"]
            width, height = told["width"], told["height"]
            # It may have been taken over by what it read.
            self.limits.check_size(width, height)
            length = width * height * 3
            if os.fstat(file.fileno()).st_size < length:
                raise crashed()
            admit("a picture on disk", 2 * BAND_BYTES, length)
            return Picture(mapped(file.fileno(), width, height), about=told["about"])
