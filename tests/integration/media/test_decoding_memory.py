"""The decoding process asks for memory when it has seen the header, and takes no more than it asked for."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from fleet.errors import InputTooLarge
from tests.support.media_files import dicom_files, dicom_zip, patched, written
from tests.support.ort_model import RecordedProgress
from tests.support.volumes import volume_of
from worker.children import bare_environment
from worker.contract import Array, Source
from worker.media.limits import VolumeLimits
from worker.media.reader import VolumeReader
from worker.memory.limit import MIB
from worker.memory.room import ArrayRoom

SHAPE = (64, 128, 128)
VOXELS = 64 * 128 * 128
LIMITS = VolumeLimits()


@dataclass
class Asked(RecordedProgress):
    """Keeps what was asked for; `refuse` and `pause_s` are what then happens."""

    words: list[tuple[str, int, int]] = field(default_factory=list)
    refuse: bool = False
    pause_s: float = 0.0

    def admit(self, what: str, peak_bytes: int, *, lean_bytes: int | None = None, scratch_bytes: int = 0) -> ArrayRoom:
        self.words.append((what, peak_bytes, scratch_bytes))
        time.sleep(self.pause_s)
        if self.refuse and peak_bytes:
            raise InputTooLarge("not here", code="not-enough-memory")
        return super().admit(what, peak_bytes)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def reader(scratch: Path) -> Iterator[VolumeReader]:
    opened = VolumeReader(LIMITS, scratch)
    yield opened
    opened.close()


def volume_file(path: Path, dtype: type = np.int16, slope: float = 0.0) -> Path:
    written(volume_of(np.arange(VOXELS).reshape(SHAPE).astype(dtype)), path, compress=path.suffix == ".nrrd")
    return patched(path, 112, "ff", slope, 0.0) if slope else path


#: Bytes per voxel that reading takes, as measured by benchmarks/memory.py.
@pytest.mark.parametrize(
    ("name", "dtype", "slope", "bytes_per_voxel"),
    [
        ("a.nii", np.int16, 0.0, 4),
        ("a.nii.gz", np.uint8, 0.0, 2),
        ("a.nii", np.float64, 0.0, 16),
        ("a.nii", np.int16, 2.5, 10),
        ("a.nrrd", np.int16, 0.0, 2),
        ("a.mha", np.float32, 0.0, 4),
    ],
)
def test_memory_is_asked_for_by_what_the_header_says(
    tmp_path: Path, reader: VolumeReader, name: str, dtype: type, slope: float, bytes_per_voxel: int
) -> None:
    progress = Asked()
    path = volume_file(tmp_path / name, dtype, slope)
    volume = reader.read(Source(path, "", ""), progress)
    (what, memory, files), (_, after, kept) = progress.words
    assert what == f"reading 128 × 128 × 64 voxels of {np.dtype(dtype).name}"
    assert memory == 80 * MIB + bytes_per_voxel * VOXELS
    assert files >= path.stat().st_size + volume.array.nbytes
    assert (after, kept) == (0, path.stat().st_size + volume.array.nbytes), "what is left when the child is done"


def test_a_dicom_series_asks_before_its_headers_and_before_its_voxels(tmp_path: Path, reader: VolumeReader) -> None:
    series = dicom_files(tmp_path / "s", volume_of(np.ones((6, 100, 120), np.int16)), RescaleSlope="0.5")
    progress = Asked()
    volume = reader.read(Source(dicom_zip(tmp_path / "a.zip", series), "", ""), progress)
    scan, read, _ = progress.words
    assert scan[0] == "reading 6 DICOM files"
    assert (
        read[0]
        == f"reading 120 × 100 × 6 voxels of {volume.array.dtype.name}"
        == "reading 120 × 100 × 6 voxels of float64"
    )
    assert read[1] > scan[1] - 8 * MIB + volume.array.nbytes


def test_what_is_refused_is_neither_unpacked_nor_read(tmp_path: Path, reader: VolumeReader, scratch: Path) -> None:
    reader.prewarm()
    seen: list[list[str]] = []

    class Refusing(Asked):
        def admit(self, what: str, peak_bytes: int, **more: Any) -> ArrayRoom:
            seen.append([path.name for path in scratch.rglob("*") if path.is_file()])
            raise InputTooLarge("not here", code="not-enough-memory")

    with pytest.raises(InputTooLarge) as caught:
        reader.read(Source(volume_file(tmp_path / "a.nii.gz"), "", ""), Refusing())
    assert caught.value.code == "not-enough-memory"
    assert seen == [[]]
    assert list(scratch.iterdir()) == []
    assert [child for child in psutil.Process().children() if "worker.media.decoder_child" in child.cmdline()] == []
    assert reader.read(Source(volume_file(tmp_path / "b.nii.gz"), "", ""), Asked()).array.size == VOXELS


def test_time_spent_waiting_for_memory_is_not_the_decoder_s(tmp_path: Path, scratch: Path) -> None:
    reader = VolumeReader(replace(LIMITS, max_seconds=15.0), scratch)
    path = volume_file(tmp_path / "a.nii.gz")
    reader.read(Source(path, "", ""), Asked())
    patient = VolumeReader(replace(LIMITS, max_seconds=2.0), scratch)
    patient.prewarm()
    assert patient.read(Source(path, "", ""), Asked(pause_s=2.5)).array.size == VOXELS
    for one in (reader, patient):
        one.close()


def voxels(answer: dict[str, Any]) -> Array:
    return np.memmap(answer["decoded"]["voxels"], answer["decoded"]["dtype"], "r")


@pytest.mark.parametrize(("asked_bytes", "expected"), [("2**30", "decoded"), ("0", "too-many-bytes")])
def test_a_child_that_needs_more_than_it_asked_for_fails_alone(
    tmp_path: Path, scratch: Path, asked_bytes: str, expected: str
) -> None:
    """As when a file gets the library to allocate what no header spoke of."""
    path = written(volume_of(np.zeros((200, 512, 512), np.int16)), tmp_path / "a.nii")
    code = (
        "import worker.media.decode as decode\n"
        f"decode.single_file_bytes = lambda header, source_format: {asked_bytes}\n"
        "from worker.media.decoder_child import main\nmain()"
    )
    request = {"path": str(path), "scratch": str(scratch), "series_uid": None, "limits": asdict(LIMITS)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=bare_environment(),
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        assert "asks" in json.loads(child.stdout.readline())
        child.stdin.write(json.dumps({"granted": True}) + "\n")
        child.stdin.close()
        answer = json.loads(child.stdout.readline())
    if expected == "decoded":
        assert voxels(answer).size == 200 * 512 * 512
    else:
        assert answer["fault"]["code"] == expected
