"""What SimpleITK would read without a word, and what would make it read too much: each is refused by its code."""

import gzip
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fleet.errors import CorruptInput, GeometryError, InputTooLarge, UnsupportedMedia
from tests.integration.media.conftest import SMALL, Decode, Refuse
from tests.support.media_files import nifti, patched, replaced, written
from tests.support.volumes import volume_of
from worker.contract import Array, Volume

ARRAY = np.arange(1, 1 + 8 * 9 * 10, dtype=np.int16).reshape(8, 9, 10)
# Offsets in a NIfTI-1 header.
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, UNITS, SROW = 40, 70, 76, 108, 112, 123, 280


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return nifti(tmp_path / "a.nii", ARRAY)


def test_a_missing_file(tmp_path: Path, refusal: Refuse) -> None:
    assert refusal(tmp_path / "absent").code == "missing-input"


def test_an_empty_file(tmp_path: Path, refusal: Refuse) -> None:
    (tmp_path / "a").touch()
    assert refusal(tmp_path / "a").code == "empty-input"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "none of NIfTI"),
        (b"<html><body>not found</body></html>", "none of NIfTI"),
        (b"\0" * 5000, "none of NIfTI"),
        (struct.pack("<i", 348) + bytes(400), "Analyze"),
        (struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n" + bytes(600), "NIfTI-2"),
        (struct.pack("<i", 348) + bytes(340) + b"ni1\0" + bytes(100), "another file"),
        (bytes(128) + b"DICM" + bytes(100), "series as one zip"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "archive"),
    ],
)
def test_something_else_is_named(tmp_path: Path, refusal: Refuse, content: bytes, said: str) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(content)
    error = refusal(tmp_path / "scan.nii.gz")
    assert isinstance(error, UnsupportedMedia)
    assert error.code == "not-a-volume"
    assert said in error.message


# Table row: header says 32000³ in a 352-byte file.
def test_a_header_that_claims_ten_to_the_twelve_voxels(sound: Path, refusal: Refuse) -> None:
    patched(sound, DIM, "4h", 3, 10000, 10000, 10000)
    sound.write_bytes(sound.read_bytes()[:352])
    error = refusal(sound)
    assert isinstance(error, InputTooLarge)
    assert error.code == "too-many-voxels"
    assert error.facts["voxels"] == 10**12


def test_a_header_that_claims_too_many_bytes(tmp_path: Path, refusal: Refuse) -> None:
    path = nifti(tmp_path / "a.nii", np.zeros((60, 60, 20), np.float64))
    few_bytes = SMALL.__class__(max_voxels=100_000, max_bytes=100_000, max_files=5)
    assert refusal(path, limits=few_bytes).code == "too-many-bytes"


# Table row: truncated .nii.
@pytest.mark.parametrize("cut", [1, 100, 1400])
def test_a_truncated_nifti(sound: Path, refusal: Refuse, cut: int) -> None:
    sound.write_bytes(sound.read_bytes()[:-cut])
    error = refusal(sound)
    assert error.code == "truncated-volume"
    assert error.facts["wanted"] - error.facts["present"] == cut


def test_a_nifti_cut_inside_its_header(sound: Path, refusal: Refuse) -> None:
    sound.write_bytes(sound.read_bytes()[:350])
    assert refusal(sound).code == "truncated-volume"


# Table row: truncated .nii.gz.
@pytest.mark.parametrize("keep", [0.3, 0.9, -1])
def test_a_truncated_gzip(sound: Path, refusal: Refuse, keep: float) -> None:
    packed = gzip.compress(sound.read_bytes())
    sound.write_bytes(packed[:-1] if keep == -1 else packed[: int(len(packed) * keep)])
    assert refusal(sound).code == "truncated-gzip"


# Table row: bit flip or bad CRC in a .nii.gz.
def test_a_flipped_bit_in_a_gzip(sound: Path, refusal: Refuse) -> None:
    packed = bytearray(gzip.compress(sound.read_bytes(), compresslevel=0))
    packed[len(packed) // 2] ^= 0x10
    sound.write_bytes(packed)
    error = refusal(sound)
    assert isinstance(error, CorruptInput)
    assert error.code == "corrupt-gzip"


@pytest.mark.parametrize("end", [8, 4], ids=["crc", "length"])
def test_a_wrong_gzip_trailer(sound: Path, refusal: Refuse, end: int) -> None:
    packed = bytearray(gzip.compress(sound.read_bytes()))
    packed[-end] ^= 1
    sound.write_bytes(packed)
    assert refusal(sound).code == "corrupt-gzip"


def test_a_short_gzip_whose_sums_are_right(sound: Path, refusal: Refuse) -> None:
    sound.write_bytes(gzip.compress(sound.read_bytes()[:-200]))
    assert refusal(sound).code == "truncated-volume"


def test_a_gzip_bomb(sound: Path, refusal: Refuse, tmp_path: Path) -> None:
    sound.write_bytes(gzip.compress(sound.read_bytes() + bytes(30_000_000)))
    assert sound.stat().st_size < 50_000
    assert refusal(sound).code == "decompression-bomb"
    inflated = sum(path.stat().st_size for path in tmp_path.glob("scratch-*/*"))
    assert inflated < 8_000_000


@pytest.mark.parametrize(
    "inner",
    [gzip.compress(b"x" * 50, mtime=0), b"PK\x03\x04" + bytes(50), b"BZh9" + bytes(50)],
    ids=["gzip", "zip", "bzip2"],
)
def test_an_archive_in_a_gzip(tmp_path: Path, refusal: Refuse, inner: bytes) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(inner))
    assert refusal(tmp_path / "a").code == "nested-archive"


def test_something_else_in_a_gzip(tmp_path: Path, refusal: Refuse) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"just text"))
    assert refusal(tmp_path / "a").code == "not-a-volume"


# Table row: truncated .mha and .nrrd, raw and compressed.
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("compress", [False, True])
def test_truncated_mha_and_nrrd(tmp_path: Path, refusal: Refuse, oblique: Volume, name: str, compress: bool) -> None:
    path = written(oblique, tmp_path / name, compress=compress)
    path.write_bytes(path.read_bytes()[:-30])
    assert refusal(path).code in (
        {"truncated-volume"} if not compress else {"truncated-gzip", "corrupt-gzip", "corrupt-stream"}
    )


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_a_flipped_bit_in_packed_mha_and_nrrd(tmp_path: Path, refusal: Refuse, oblique: Volume, name: str) -> None:
    path = written(oblique, tmp_path / name, compress=True)
    data = bytearray(path.read_bytes())
    data[-40] ^= 0x40
    path.write_bytes(data)
    assert refusal(path).code in {"corrupt-gzip", "corrupt-stream", "truncated-gzip"}


def test_an_mha_bomb(tmp_path: Path, refusal: Refuse, oblique: Volume) -> None:
    path = written(oblique, tmp_path / "a.mha")
    head, _, voxels = path.read_bytes().partition(b"LOCAL\n")
    bomb = head.replace(b"CompressedData = False", b"CompressedData = True") + b"LOCAL\n"
    path.write_bytes(bomb + zlib.compress(voxels + bytes(30_000_000)))
    assert refusal(path).code == "decompression-bomb"


# Table row: shear in the sform.
@pytest.mark.parametrize("shear", [0.5, 0.01])
def test_a_sheared_nifti(tmp_path: Path, refusal: Refuse, shear: float) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[0, 1] = shear
    error = refusal(nifti(tmp_path / "a.nii", ARRAY, affine, qform=0))
    assert isinstance(error, GeometryError)
    assert error.code == "sheared-direction"


def test_a_sheared_mha_and_nrrd(tmp_path: Path, refusal: Refuse) -> None:
    volume = volume_of(ARRAY)
    mha = replaced(written(volume, tmp_path / "a.mha"), b"Matrix = 1 0 0 0 1 0", b"Matrix = 0.96 0.28 0 0 1 0")
    assert refusal(mha).code == "sheared-direction"
    nrrd = replaced(written(volume, tmp_path / "a.nrrd"), b"(1,0,0)", b"(1,0.3,0)")
    assert refusal(nrrd).code == "sheared-direction"


# Table rows: pixdim 0 (ITK: silently 1 mm), negative pixdim (ITK: a flip).
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_spacing_that_is_no_length(sound: Path, refusal: Refuse, value: float, axis: int) -> None:
    error = refusal(patched(sound, PIXDIM + 4 * axis, "f", value))
    assert isinstance(error, GeometryError)
    assert error.code == "invalid-spacing"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_an_affine_that_no_volume_has(sound: Path, refusal: Refuse, value: float) -> None:
    assert refusal(patched(sound, SROW, "f", value)).code == "invalid-spacing"


@pytest.mark.parametrize("spacing", [b"0 2 3", b"-1 2 3", b"nan 2 3", b"inf 2 3"])
def test_an_mha_spacing_that_is_no_length(tmp_path: Path, refusal: Refuse, spacing: bytes) -> None:
    volume = volume_of(ARRAY, spacing=(1, 2, 3))
    path = replaced(written(volume, tmp_path / "a.mha"), b"ElementSpacing = 1 2 3", b"ElementSpacing = " + spacing)
    assert refusal(path).code == "invalid-spacing"


@pytest.mark.parametrize("vector", [b"(0,0,0)", b"(nan,0,0)"])
def test_an_nrrd_spacing_that_is_no_length(tmp_path: Path, refusal: Refuse, vector: bytes) -> None:
    assert refusal(replaced(written(volume_of(ARRAY), tmp_path / "a.nrrd"), b"(1,0,0)", vector)).code == (
        "invalid-spacing"
    )


def test_a_spacing_that_contradicts_the_affine(sound: Path, refusal: Refuse) -> None:
    patched(sound, PIXDIM + 4, "3f", 5.0, 5.0, 5.0)
    patched(sound, 252, "h", 0)
    assert refusal(sound).code == "ambiguous-geometry"


def test_an_orientation_that_is_not_there(tmp_path: Path, refusal: Refuse) -> None:
    assert refusal(nifti(tmp_path / "a.nii", ARRAY, sform=0, qform=0)).code == "no-orientation"
    volume = volume_of(ARRAY)
    nrrd = replaced(written(volume, tmp_path / "a.nrrd"), b"space: left-posterior-superior", b"space dimension: 3")
    assert refusal(nrrd).code == "no-orientation"


# Table row: 4-D. And everything else that is no volume.
@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 4, 3), (4, 4, 4, 1, 3), (100,)])
def test_images_of_other_dimensions(tmp_path: Path, refusal: Refuse, shape: tuple[int, ...]) -> None:
    error = refusal(nifti(tmp_path / "a.nii", np.ones(shape, np.int16)))
    assert isinstance(error, UnsupportedMedia)
    assert error.code == "not-3d"


# Table row: RGB and vectors.
def test_colours_and_vectors(tmp_path: Path, refusal: Refuse) -> None:
    rgb = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii")
    assert refusal(tmp_path / "rgb.nii").code == "not-scalar"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.complex64), np.eye(4)), tmp_path / "c.nii")
    assert refusal(tmp_path / "c.nii").code == "not-scalar"


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_vector_mha_and_nrrd(tmp_path: Path, refusal: Refuse, name: str) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / name))
    assert refusal(tmp_path / name).code == "not-scalar"


# Table row: NaN and infinity; NIfTI's silently become 0 in ITK.
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_voxels_that_are_not_numbers(tmp_path: Path, refusal: Refuse, name: str, wrong: float, dtype: type) -> None:
    array: Array = ARRAY.astype(dtype)
    array[-1, -1, -1] = wrong
    assert refusal(written(volume_of(array), tmp_path / name)).code == "non-finite-voxels"


@pytest.mark.parametrize(("offset", "value"), [(SLOPE, np.nan), (SLOPE + 4, np.inf)])
def test_a_rescaling_that_is_no_number(sound: Path, refusal: Refuse, offset: int, value: float) -> None:
    patched(sound, SLOPE, "2f", 2.0, 0.0)
    assert refusal(patched(sound, offset, "f", value)).code == "invalid-header"


@pytest.mark.parametrize("value", [0.0, -8.0, 347.0, np.nan, 1e20])
def test_voxels_that_would_begin_inside_the_header(sound: Path, refusal: Refuse, value: float) -> None:
    assert refusal(patched(sound, VOX_OFFSET, "f", value)).code == "invalid-header"


@pytest.mark.parametrize("dim", [(0, 8, 9, 10), (9, 8, 9, 10), (3, -8, 9, 10), (3, 0, 9, 10)])
def test_dimensions_that_make_no_sense(sound: Path, refusal: Refuse, dim: tuple[int, ...]) -> None:
    assert refusal(patched(sound, DIM, "4h", *dim)).code == "invalid-header"


# Detached data: a header may name any file of the machine.
@pytest.mark.parametrize(
    "line",
    [
        b"data file: secret.raw", b"datafile: /etc/passwd", b"data file: LIST", b"Data File: ../../x",
    ],
)  # fmt: skip
def test_an_nrrd_that_names_another_file(tmp_path: Path, refusal: Refuse, line: bytes) -> None:
    path = replaced(written(volume_of(ARRAY), tmp_path / "a.nrrd"), b"encoding: raw", b"encoding: raw\n" + line)
    assert refusal(path).code == "detached-data"


@pytest.mark.parametrize("data", [b"voxels.raw", b"/etc/passwd", b"LIST", b"slice%03d.raw 1 9 1", b"../x.raw"])
def test_an_mha_that_names_another_file(tmp_path: Path, refusal: Refuse, data: bytes) -> None:
    path = replaced(written(volume_of(ARRAY), tmp_path / "a.mha"), b"= LOCAL", b"= " + data)
    assert refusal(path).code == "detached-data"


@pytest.mark.parametrize("trick", [b"ElementDataFile : /etc/hostname\n", b"# ElementDataFile = /etc/hostname\n"])
def test_a_line_that_only_the_other_parser_would_read_reaches_no_file(
    tmp_path: Path, decoding: Decode, trick: bytes
) -> None:
    path = replaced(written(volume_of(ARRAY), tmp_path / "a.mha"), b"ElementType", trick + b"ElementType")
    assert decoding(path).geometry.size == (10, 9, 8), "read with a header of our own making"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"encoding: raw", b"encoding: ascii", "unsupported-encoding"),
        (b"encoding: raw", b"encoding: raw\nline skip: 3", "unsupported-encoding"),
        (b"encoding: raw", b"encoding: raw\nbyte skip: -1", "unsupported-encoding"),
        (b"encoding: raw", b"encoding: raw\nspace units: \"m\" \"m\" \"m\"", "unsupported-units"),
        (b"type: short", b"type: block", "not-scalar"),
        (b"sizes: 10 9 8", b"sizes: 10 9", "invalid-header"),
        (b"sizes: 10 9 8", b"sizes: 10 9 x", "invalid-header"),
        (b"sizes: 10 9 8", b"sizes: 10 9 8000000000", "too-many-voxels"),
        (b"sizes: 10 9 8", b"sizes: 10 9 " + b"9" * 4000, "invalid-header"),
        (b"sizes: 10 9 8", b"sizes: 10 9 9", "truncated-volume"),
        (b"(1,0,0)", b"(1,0)", "invalid-direction"),
        (b"(1,0,0)", b"none", "invalid-direction"),
        (b"endian: little\n", b"", "invalid-header"),
    ],
)  # fmt: skip
def test_nrrd_headers_with_a_fault(tmp_path: Path, refusal: Refuse, old: bytes, new: bytes, code: str) -> None:
    assert refusal(replaced(written(volume_of(ARRAY), tmp_path / "a.nrrd"), old, new)).code == code


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"BinaryData = True", b"BinaryData = False", "unsupported-encoding"),
        (b"NDims = 3", b"NDims = 3\nHeaderSize = -1", "unsupported-encoding"),
        (b"MET_SHORT", b"MET_STRING", "not-scalar"),
        (b"DimSize = 10 9 8", b"DimSize = 10 9", "invalid-header"),
        (b"DimSize = 10 9 8", b"DimSize = 10 9 80000000", "too-many-voxels"),
        (b"DimSize = 10 9 8", b"DimSize = 10 9 9", "truncated-volume"),
        (b"ElementSpacing = 1 1 1\n", b"", "invalid-spacing"),
        (b"Offset = 0 0 0\n", b"", "no-orientation"),
        (b"Offset = 0 0 0", b"Offset = 0 x 0", "invalid-header"),
        (b"Matrix = 1 0 0 0 1 0 0 0 1", b"Matrix = 0 0 0 0 0 0 0 0 0", "invalid-direction"),
        (b"ElementType", b"DimSize = 10 9 8\nElementType", "invalid-header"),
    ],
)
def test_mha_headers_with_a_fault(tmp_path: Path, refusal: Refuse, old: bytes, new: bytes, code: str) -> None:
    assert refusal(replaced(written(volume_of(ARRAY), tmp_path / "a.mha"), old, new)).code == code


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 5.0), (1e-20, 0.0)])
def test_a_rescaling_that_programs_read_differently(
    sound: Path, refusal: Refuse, slope: float, intercept: float
) -> None:
    assert refusal(patched(sound, SLOPE, "2f", slope, intercept)).code == "invalid-header"


def test_an_mha_rescaling_that_most_programs_ignore(tmp_path: Path, refusal: Refuse) -> None:
    path = written(volume_of(ARRAY), tmp_path / "a.mha")
    scaled = replaced(path, b"ElementDataFile", b"ElementToIntensityFunctionSlope = 2\nElementDataFile")
    assert refusal(scaled).code == "unsupported-encoding"


def test_an_nrrd_that_does_not_say_where_it_begins(tmp_path: Path, refusal: Refuse) -> None:
    path = replaced(written(volume_of(ARRAY), tmp_path / "a.nrrd"), b"space origin:", b"space nirgend:")
    assert refusal(path).code in ("invalid-direction", "invalid-header")


@pytest.mark.parametrize("spacing", [(1e-7, 1, 1), (1, 1e150, 1)])
def test_a_spacing_that_no_scanner_has(tmp_path: Path, refusal: Refuse, spacing: tuple[float, float, float]) -> None:
    assert refusal(written(volume_of(ARRAY, spacing=spacing), tmp_path / "a.nrrd")).code == "invalid-spacing"


@pytest.mark.parametrize("extreme", [np.float64(1e300), np.int32(2**30)])
def test_voxels_that_float32_cannot_hold(tmp_path: Path, refusal: Refuse, extreme: np.generic) -> None:
    array = ARRAY.astype(extreme.dtype)
    array[3, 3, 3] = extreme
    assert refusal(written(volume_of(array), tmp_path / "a.nrrd")).code == "extreme-voxels"


def test_a_header_of_very_many_axes_is_refused_in_few_words(tmp_path: Path, refusal: Refuse) -> None:
    path = tmp_path / "a.nrrd"
    axes = b" ".join([b"1"] * 5000)
    path.write_bytes(b"NRRD0004\ntype: short\ndimension: 5000\nsizes: " + axes + b"\nencoding: raw\nendian: little\n\n")
    error = refusal(path)
    assert isinstance(error, CorruptInput | UnsupportedMedia)
    assert len(error.message) + len(str(error.facts)) < 1000
