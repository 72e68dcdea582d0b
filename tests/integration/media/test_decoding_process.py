"""Decoding in killable children: the same volumes and errors, and nothing that a file does reaches the worker."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from fleet.errors import (
    CorruptInput,
    DependencyError,
    GeometryError,
    InputError,
    InputTooLarge,
    RunStopped,
    UnsupportedMedia,
)
from tests.integration.media.conftest import SMALL
from tests.support.media_files import dicom_files, dicom_zip, nifti, patched, written
from tests.support.ort_model import RecordedProgress
from tests.support.volumes import volume_of
from worker.contract import Source, Volume
from worker.media.limits import VolumeLimits
from worker.media.reader import VolumeReader
from worker.media.sandbox import Sandbox


def source(path: Path) -> Source:
    return Source(path, "patient-name.nii", "application/octet-stream")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def reader(scratch: Path) -> Iterator[VolumeReader]:
    reader = VolumeReader(SMALL, scratch)
    yield reader
    reader.close()


def decoders() -> list[psutil.Process]:
    mine = psutil.Process().children()
    return [child for child in mine if any("decoder_child" in part for part in child.cmdline())]


def test_a_volume_comes_back_whole_and_leaves_nothing_behind(
    tmp_path: Path, scratch: Path, reader: VolumeReader, oblique: Volume
) -> None:
    read = reader.read(source(written(oblique, tmp_path / "a.mha")), RecordedProgress())
    assert np.array_equal(read.array, oblique.array)
    assert read.geometry == oblique.geometry
    assert not read.array.flags.writeable
    assert list(scratch.iterdir()) == []


def test_one_child_serves_many_inputs(tmp_path: Path, reader: VolumeReader, oblique: Volume) -> None:
    path = written(oblique, tmp_path / "a.nii.gz")
    reader.read(source(path), RecordedProgress())
    before = [child.pid for child in decoders()]
    broken = tmp_path / "broken"
    broken.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptInput):
        reader.read(source(broken), RecordedProgress())
    assert np.array_equal(reader.read(source(path), RecordedProgress()).array, oblique.array)
    assert [child.pid for child in decoders()] == before
    assert len(before) == 1


def test_errors_keep_their_type_code_and_facts(tmp_path: Path, reader: VolumeReader) -> None:
    array = np.ones((4, 5, 6), np.int16)
    with pytest.raises(GeometryError) as shear:
        reader.read(source(patched(nifti(tmp_path / "a.nii", array), 80, "f", 0.0)), RecordedProgress())
    assert shear.value.code == "invalid-spacing"
    with pytest.raises(InputTooLarge) as size:
        reader.read(
            source(patched(nifti(tmp_path / "b.nii", array), 40, "4h", 3, 9999, 9999, 9999)), RecordedProgress()
        )
    assert size.value.facts["voxels"] == 9999**3
    assert size.value.as_dict()["code"] == "too-many-voxels"


def test_a_series_is_chosen_through_the_child(tmp_path: Path, reader: VolumeReader, oblique: Volume) -> None:
    files = dicom_files(tmp_path / "one", oblique, "1.2.1")
    files += dicom_files(tmp_path / "two", volume_of(oblique.array[:3]), "1.2.2")
    path = dicom_zip(tmp_path / "a.zip", files)
    with pytest.raises(UnsupportedMedia) as caught:
        reader.read(source(path), RecordedProgress())
    uids = [series["series_uid"] for series in caught.value.facts["series"]]
    assert sorted(uids) == ["1.2.1", "1.2.2"]
    assert reader.read(source(path), RecordedProgress(), "1.2.2").geometry.size == (11, 9, 3)


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Path]:
    """An input that is never there: a pipe that nobody writes to, on which a decoder waits."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    yield path
    # Lets a reader that is still there go.
    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


def during(action: Callable[[], None]) -> threading.Thread:
    """Runs `action` once a decoder is at work."""

    def wait() -> None:
        end = time.monotonic() + 20
        while not decoders() and time.monotonic() < end:
            time.sleep(0.01)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_decoder_that_dies_fails_the_job_and_not_the_next_one(
    tmp_path: Path, reader: VolumeReader, endless: Path, oblique: Volume, number: signal.Signals
) -> None:
    killer = during(lambda: decoders()[0].send_signal(number))
    with pytest.raises(InputError) as caught:
        reader.read(source(endless), RecordedProgress())
    killer.join()
    assert caught.value.code == "decoder-crashed"
    assert not caught.value.retryable
    path = written(oblique, tmp_path / "a.nrrd")
    assert np.array_equal(reader.read(source(path), RecordedProgress()).array, oblique.array)


def test_a_decoder_that_was_killed_for_memory_is_tried_again(reader: VolumeReader, endless: Path) -> None:
    killer = during(lambda: decoders()[0].send_signal(signal.SIGKILL))
    with pytest.raises(DependencyError) as caught:
        reader.read(source(endless), RecordedProgress())
    killer.join()
    assert caught.value.code == "decoder-killed"
    assert caught.value.retryable


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_not_the_inputs_fault(tmp_path: Path, scratch: Path, oblique: Volume) -> None:
    (scratch / "voxels.raw").symlink_to("/dev/full")
    assert failed_disk(written(oblique, tmp_path / "a.mha"), scratch) == "worker-disk"


def test_a_missing_scratch_folder_is_not_the_inputs_fault(tmp_path: Path, oblique: Volume) -> None:
    path = written(oblique, tmp_path / "a.mha")
    assert failed_disk(path, path / "below-a-file") == "worker-disk"


def failed_disk(path: Path, scratch: Path) -> str:
    sandbox = Sandbox()
    try:
        with pytest.raises(DependencyError) as caught:
            sandbox.decode(path, SMALL, scratch, None, lambda: None)
    finally:
        sandbox.close()
    assert caught.value.retryable
    return caught.value.code


def test_a_child_that_has_read_dicom_is_not_used_again(tmp_path: Path, reader: VolumeReader, oblique: Volume) -> None:
    files = dicom_files(tmp_path / "s", oblique)
    sound, short = dicom_zip(tmp_path / "a.zip", files), dicom_zip(tmp_path / "b.zip", files[:1])
    reader.prewarm()
    seen = {child.pid for child in decoders()}
    assert np.array_equal(reader.read(source(sound), RecordedProgress()).array, oblique.array)
    (second,) = decoders()
    assert second.pid not in seen
    with pytest.raises(InputError):
        reader.read(source(short), RecordedProgress())
    (third,) = decoders()
    assert third.pid not in {*seen, second.pid}


def test_a_decoder_that_hangs_is_stopped(scratch: Path, endless: Path) -> None:
    reader = VolumeReader(replace(SMALL, max_seconds=0.3), scratch)
    with pytest.raises(InputError) as caught:
        reader.read(source(endless), RecordedProgress())
    assert caught.value.code == "decoder-timeout"
    assert not caught.value.retryable
    assert decoders() == []
    assert list(scratch.iterdir()) == []


def test_cancelling_ends_the_decoder(reader: VolumeReader, scratch: Path, endless: Path) -> None:
    progress = RecordedProgress()
    canceller = during(lambda: setattr(progress, "stop", RunStopped("asked to stop", code="cancelled")))
    with pytest.raises(RunStopped):
        reader.read(source(endless), progress)
    canceller.join()
    assert decoders() == []
    assert list(scratch.iterdir()) == []


def test_an_idle_child_that_was_killed_is_replaced(tmp_path: Path, reader: VolumeReader, oblique: Volume) -> None:
    path = written(oblique, tmp_path / "a.mha")
    reader.read(source(path), RecordedProgress())
    (child,) = decoders()
    child.kill()
    child.wait()
    assert np.array_equal(reader.read(source(path), RecordedProgress()).array, oblique.array)


def test_memory_is_bounded_in_the_child(tmp_path: Path, scratch: Path) -> None:
    path = written(volume_of(np.zeros((200, 512, 512), np.uint8)), tmp_path / "a.nii")
    # Nothing beyond what the process maps already.
    reader = VolumeReader(VolumeLimits(max_bytes=60_000_000, overhead_bytes=0), scratch)
    with pytest.raises(InputError) as caught:
        reader.read(source(path), RecordedProgress())
    assert caught.value.code in ("too-many-bytes", "decoder-crashed")
    reader.close()


def test_prewarming_starts_one_child_that_is_then_used(tmp_path: Path, reader: VolumeReader, oblique: Volume) -> None:
    reader.prewarm()
    warm = [child.pid for child in decoders()]
    reader.read(source(written(oblique, tmp_path / "a.mha")), RecordedProgress())
    assert [child.pid for child in decoders()] == warm
    assert len(warm) == 1


def test_closing_ends_the_children(scratch: Path) -> None:
    reader = VolumeReader(SMALL, scratch)
    reader.prewarm()
    reader.close()
    assert decoders() == []


def test_concurrent_reads_have_a_child_each(tmp_path: Path, reader: VolumeReader, oblique: Volume) -> None:
    path = written(oblique, tmp_path / "a.nii.gz")
    results: list[bool] = []

    def read() -> None:
        results.append(np.array_equal(reader.read(source(path), RecordedProgress()).array, oblique.array))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_a_child_knows_none_of_the_workers_environment(
    monkeypatch: pytest.MonkeyPatch, reader: VolumeReader, tmp_path: Path, oblique: Volume
) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "do-not-tell")
    reader.read(source(written(oblique, tmp_path / "a.mha")), RecordedProgress())
    (child,) = decoders()
    assert "POSTGRES_PASSWORD" not in child.environ()
    assert "do-not-tell" not in str(child.environ())


def test_a_file_larger_than_the_limit_is_not_opened(tmp_path: Path, reader: VolumeReader) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(SMALL.max_bytes + 1)
    with pytest.raises(InputTooLarge):
        reader.read(source(big), RecordedProgress())
    assert decoders() == []
