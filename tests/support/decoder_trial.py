"""Puts damaged files before the decoders and judges what comes of each. Used by tests/fuzz and `make fuzz`."""

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from fleet.errors import DependencyError, FleetError, InputError
from tests.support.ort_model import RecordedProgress
from worker.contract import Source, Volume
from worker.media.limits import VolumeLimits
from worker.media.reader import VolumeReader

#: Small volumes, and no more memory than the interpreter and the libraries map, plus a little: a file of some
#: kilobytes that makes a decoder want more than this is a finding.
LIMITS = VolumeLimits(
    max_voxels=100_000, max_bytes=2_000_000, max_files=50, max_seconds=30.0, overhead_bytes=512 * 1024**2
)


class Verdict(StrEnum):
    DECODED = "decoded"
    REFUSED = "refused"
    CRASHED = "crashed"
    HUNG = "hung"
    #: It wanted more memory than is plausible for its size.
    GREEDY = "greedy"
    #: It was decoded, and what came out cannot be a volume.
    IMPLAUSIBLE = "implausible"

    @property
    def sound(self) -> bool:
        return self in (Verdict.DECODED, Verdict.REFUSED)


@dataclass(frozen=True)
class Outcome:
    """`code` is the error's, or the format of the volume; `note` is for whoever looks into a finding."""

    verdict: Verdict
    code: str
    seconds: float
    note: str = ""


_BY_CODE = {
    "decoder-crashed": Verdict.CRASHED,
    "decoder-failed": Verdict.CRASHED,
    "decoder-killed": Verdict.CRASHED,
    "worker-disk": Verdict.CRASHED,
    "decoder-timeout": Verdict.HUNG,
}


class Trial:
    """Thread-safe. All decoders have ended and all files are gone when the block around it has ended."""

    def __init__(self, folder: Path, limits: VolumeLimits) -> None:
        self._inputs = folder / "inputs"
        self._scratch = folder / "scratch"
        self._inputs.mkdir()
        self._scratch.mkdir()
        self.reader = VolumeReader(limits, self._scratch)

    def run(self, data: bytes, name: str) -> Outcome:
        """`name` is unique among the inputs that are under way."""
        path = self._inputs / name
        path.write_bytes(data)
        began = time.perf_counter()
        try:
            volume = self.reader.read(Source(path, "", ""), RecordedProgress())
        except (InputError, DependencyError) as error:
            seconds = time.perf_counter() - began
            return Outcome(_refusal(error), error.code, seconds, error.message)
        finally:
            path.unlink()
        seconds = time.perf_counter() - began
        fault = implausible(volume)
        return Outcome(
            Verdict.IMPLAUSIBLE if fault else Verdict.DECODED, str(volume.about["source_format"]), seconds, fault
        )

    def left_behind(self) -> list[str]:
        """Files that no decode under way can own; call it when none is."""
        return sorted(str(path.relative_to(self._scratch)) for path in self._scratch.rglob("*"))


@contextmanager
def trial(folder: Path, limits: VolumeLimits = LIMITS) -> Iterator[Trial]:
    opened = Trial(folder, limits)
    try:
        yield opened
    finally:
        opened.reader.close()


def _refusal(error: FleetError) -> Verdict:
    # What a header claims is refused with the limit; without it, memory had run out.
    if error.code == "too-many-bytes" and not error.facts:
        return Verdict.GREEDY
    return _BY_CODE.get(error.code, Verdict.REFUSED)


def implausible(volume: Volume) -> str:
    """What is wrong with a decoded volume, in words; empty when nothing is."""
    geometry, array = volume.geometry, volume.array
    x, y, z = geometry.size
    direction = np.reshape(geometry.direction, (3, 3))
    stored = array.base.size() if isinstance(array.base, mmap.mmap) else None
    facts = {
        "the array has another size than the grid": array.shape == (z, y, x),
        "the file of voxels is longer or shorter than the grid": stored == x * y * z * array.dtype.itemsize,
        "an axis has less than two voxels": min(geometry.size) >= 2,
        "the voxels are no plain numbers": array.dtype.kind in "iuf",
        "a voxel is not finite": bool(np.isfinite(array).all()),
        "the grid is not finite": bool(np.isfinite([*geometry.spacing, *geometry.origin, *geometry.direction]).all()),
        "a spacing is not positive": min(geometry.spacing) > 0,
        "the axes are not at right angles": bool(np.abs(direction.T @ direction - np.eye(3)).max() < 2e-3),
    }
    return "; ".join(fault for fault, holds in facts.items() if not holds)
