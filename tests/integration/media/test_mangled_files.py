"""Files mangled at random: each ends as a volume or as an error of the input, and the reader lives on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.errors import InputError
from tests.integration.media.conftest import SMALL
from tests.support.media_files import dicom_files, dicom_zip, written
from tests.support.ort_model import RecordedProgress
from tests.support.volumes import volume_of
from worker.contract import Source
from worker.media.reader import VolumeReader

KINDS = ["a.nii", "a.nii.gz", "a.nrrd", "packed.nrrd", "a.mha", "packed.mha", "dicom.zip"]
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=4)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    volume = volume_of(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6), "RAS", (5, 3, -4), (1.0, 1.5, 2.0))
    for name in KINDS[:-1]:
        written(volume, folder / name, compress="packed" in name or "gz" in name)
    dicom_zip(folder / "dicom.zip", dicom_files(folder / "slices", volume))
    return {name: (folder / name).read_bytes() for name in KINDS}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolumeReader]:
    reader = VolumeReader(SMALL, tmp_path_factory.mktemp("scratch"))
    yield reader
    reader.close()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES, cut=st.floats(0.2, 1), near=st.booleans())
def test_a_mangled_file_is_a_volume_or_an_input_error(
    kind: str,
    sound: dict[str, bytes],
    reader: VolumeReader,
    tmp_path: Path,
    changes: list[tuple[float, bytes]],
    cut: float,
    near: bool,
) -> None:
    data = bytearray(sound[kind])
    # Headers are where the trouble is.
    reach = min(len(data), 450) if near else len(data)
    for place, patch in changes:
        at = int(place * (reach - 1))
        data[at : at + len(patch)] = patch
    path = tmp_path / "upload"
    path.write_bytes(data[: int(len(data) * cut)] if not near else data)
    error = volume = None
    try:
        volume = reader.read(Source(path, "", ""), RecordedProgress())
    except InputError as refused:
        error = refused
    if error is not None:
        assert error.code != "decoder-failed", error.message
        assert str(tmp_path) not in error.message
    if volume is not None:
        assert np.isfinite(volume.array).all()
        assert np.isfinite([*volume.geometry.spacing, *volume.geometry.origin, *volume.geometry.direction]).all()
        assert min(volume.geometry.spacing) > 0
