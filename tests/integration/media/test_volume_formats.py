"""Sound files of every format give the same voxels on the same grid."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.integration.media.conftest import Decode, voxels_of
from tests.support.media_files import dicom_files, dicom_zip, nifti, replaced, written, zipped
from tests.support.volumes import volume_of
from worker.contract import Geometry, Volume


def close(a: Geometry, b: Geometry, tolerance: float) -> bool:
    return a.size == b.size and all(
        np.allclose(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance)
        for name in ("spacing", "origin", "direction")
    )


@pytest.mark.parametrize(
    ("name", "compress", "source_format", "tolerance"),
    [
        ("a.nii", False, "nifti", 1e-4),
        ("a.nii.gz", True, "nifti", 1e-4),
        ("a.nrrd", False, "nrrd", 1e-12),
        ("a.nrrd", True, "nrrd", 1e-12),
        ("a.mha", False, "mha", 1e-12),
        ("a.mha", True, "mha", 1e-12),
    ],
)
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.uint16, np.float64, np.int8])
def test_single_files_are_read_as_they_were_written(
    tmp_path: Path, decoding: Decode, oblique: Volume, name: str, compress: bool, source_format: str,
    tolerance: float, dtype: type,
) -> None:  # fmt: skip
    oblique.array = (oblique.array / 9 if np.dtype(dtype).kind == "f" else oblique.array % 100).astype(dtype)
    # The name says nothing: sniffing goes by content.
    path = written(oblique, tmp_path / name, compress=compress).rename(tmp_path / "upload")
    decoded = decoding(path)
    assert np.array_equal(voxels_of(decoded), oblique.array)
    assert close(decoded.geometry, oblique.geometry, tolerance)
    assert decoded.about["source_format"] == source_format
    assert decoded.about["warnings"] == []


@pytest.mark.parametrize("compress", [False, True])
def test_an_mhd_comes_with_its_data_in_a_zip(tmp_path: Path, decoding: Decode, oblique: Volume, compress: bool) -> None:
    written(oblique, tmp_path / "scan.mhd", compress=compress)
    parts = {f"case/{path.name}": path for path in tmp_path.glob("scan.*")}
    decoded = decoding(zipped(tmp_path / "upload", parts | {"case/notes.txt": b"hello"}))
    assert np.array_equal(voxels_of(decoded), oblique.array)
    assert close(decoded.geometry, oblique.geometry, 1e-12)
    assert decoded.about["files_left_aside"] == {"other": 1}


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha"])
def test_one_volume_may_come_zipped(tmp_path: Path, decoding: Decode, oblique: Volume, name: str) -> None:
    path = written(oblique, tmp_path / name)
    decoded = decoding(zipped(tmp_path / "upload", {name: path, "__MACOSX/._x": b"\0\5", ".DS_Store": b"x"}))
    assert np.array_equal(voxels_of(decoded), oblique.array)
    assert "files_left_aside" not in decoded.about


def test_a_dicom_series_is_sorted_by_position(tmp_path: Path, decoding: Decode, oblique: Volume) -> None:
    path = dicom_zip(tmp_path / "upload", dicom_files(tmp_path / "series", oblique))
    decoded = decoding(path)
    assert np.array_equal(voxels_of(decoded), oblique.array)
    assert close(decoded.geometry, oblique.geometry, 1e-5)
    assert decoded.about == {"source_format": "dicom", "modality": "CT", "warnings": []}


def test_big_endian_nifti_is_read(tmp_path: Path, decoding: Decode) -> None:
    array = np.arange(60, dtype=">i2").reshape(3, 4, 5)
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 2, 3, 1]), header), tmp_path / "a.nii")
    assert np.array_equal(voxels_of(decoding(tmp_path / "a.nii")), array.T)


def test_rescaled_nifti_becomes_float(tmp_path: Path, decoding: Decode) -> None:
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    nibabel.save(image, tmp_path / "a.nii")
    decoded = decoding(tmp_path / "a.nii")
    assert np.dtype(decoded.dtype).kind == "f"
    assert voxels_of(decoded) == pytest.approx(nibabel.load(tmp_path / "a.nii").get_fdata().T)


def test_integers_are_held_in_sixteen_bits_where_they_fit(tmp_path: Path, decoding: Decode) -> None:
    small = volume_of(np.full((3, 4, 5), -1000, np.int32))
    assert decoding(written(small, tmp_path / "a.mha")).dtype == "<i2"
    large = volume_of(np.full((3, 4, 5), 40000, np.int32))
    assert voxels_of(decoding(written(large, tmp_path / "b.mha"))).max() == 40000


def test_trailing_axes_of_one_voxel_do_not_count(tmp_path: Path, decoding: Decode) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5, 1)
    assert np.array_equal(voxels_of(decoding(nifti(tmp_path / "a.nii", array))), array[..., 0].T)


@pytest.mark.parametrize(("code", "factor"), [(1, 1000.0), (3, 0.001), (2, 1.0), (0, 1.0)])
def test_nifti_units_are_brought_to_mm(tmp_path: Path, decoding: Decode, code: int, factor: float) -> None:
    path = nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))
    data = bytearray(path.read_bytes())
    data[123] = code
    path.write_bytes(data)
    assert decoding(path).geometry.spacing == pytest.approx((factor, 2 * factor, 3 * factor))


def test_nrrd_in_ras_means_the_same_place(tmp_path: Path, decoding: Decode) -> None:
    volume = volume_of(np.zeros((3, 4, 5), np.int16), "LPS", (0, 0, 0), (1, 2, 3), (10, 20, 30))
    path = replaced(written(volume, tmp_path / "a.nrrd"), b"left-posterior-superior", b"right-anterior-superior")
    geometry = decoding(path).geometry
    assert geometry.origin == (-10, -20, 30)
    assert geometry.direction == (-1, 0, 0, 0, -1, 0, 0, 0, 1)


def test_disagreeing_forms_are_told(tmp_path: Path, decoding: Decode) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4))
    other = np.eye(4)
    other[0, 3] = 50
    image.set_sform(np.eye(4), 2)
    image.set_qform(other, 1)
    nibabel.save(image, tmp_path / "a.nii")
    decoded = decoding(tmp_path / "a.nii")
    assert decoded.geometry.origin[0] == -50
    assert "qform and sform" in decoded.about["warnings"][0]


def test_several_gzip_members_are_one_file(tmp_path: Path, decoding: Decode, oblique: Volume) -> None:
    data = written(oblique, tmp_path / "a.nii").read_bytes()
    path = tmp_path / "upload"
    path.write_bytes(gzip.compress(data[:500]) + gzip.compress(data[500:]))
    assert np.array_equal(voxels_of(decoding(path)), oblique.array)


def test_metadata_of_the_source_stays_behind(tmp_path: Path, decoding: Decode, oblique: Volume) -> None:
    path = dicom_zip(tmp_path / "upload", dicom_files(tmp_path / "series", oblique))
    assert "Secret" not in repr(decoding(path))
    assert "1.2.3" not in repr(decoding(path).about)
