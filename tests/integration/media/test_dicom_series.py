"""Zipped DICOM: what is one sound series, and what ITK would bend into one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import RLELossless

from fleet.errors import CorruptInput, GeometryError, UnsupportedMedia
from tests.integration.media.conftest import SMALL, Decode, Refuse, voxels_of
from tests.support.media_files import MR, dicom_files, dicom_slice, dicom_zip
from tests.support.volumes import volume_of
from worker.contract import Array, Volume

PIXELS = np.arange(6 * 7, dtype=np.int16).reshape(6, 7)


def stacked(folder: Path, positions: list[tuple[float, float, float]], series: str = "1.2.3.4") -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [dicom_slice(folder / f"{k:03}", PIXELS + k, at, series) for k, at in enumerate(positions)]


def upright(heights: list[float]) -> list[tuple[float, float, float]]:
    return [(0.0, 0.0, z) for z in heights]


# Table row: a missing slice.
@pytest.mark.parametrize("absent", [1, 3])
def test_a_missing_slice(tmp_path: Path, refusal: Refuse, absent: int) -> None:
    heights = [2.5 * k for k in range(8) if k != absent]
    error = refusal(dicom_zip(tmp_path / "a.zip", stacked(tmp_path / "s", upright(heights))))
    assert isinstance(error, GeometryError)
    assert error.code == "missing-slices"
    assert error.facts["after_slice"] == absent
    assert error.facts["gap_mm"] == 5.0
    assert error.facts["usual_mm"] == 2.5


def test_uneven_slices(tmp_path: Path, refusal: Refuse) -> None:
    path = dicom_zip(tmp_path / "a.zip", stacked(tmp_path / "s", upright([0, 2, 4, 6.1, 8.1])))
    assert refusal(path).code == "missing-slices"


# Table row: duplicate positions.
def test_two_slices_at_one_position(tmp_path: Path, refusal: Refuse) -> None:
    path = dicom_zip(tmp_path / "a.zip", stacked(tmp_path / "s", upright([0, 2, 2, 4])))
    assert refusal(path).code == "duplicate-slices"


def test_copies_of_one_file_count_once_and_are_told(tmp_path: Path, decoding: Decode) -> None:
    files = stacked(tmp_path / "s", upright([0, 2, 4]))
    copy = tmp_path / "s" / "copy"
    copy.write_bytes(files[1].read_bytes())
    decoded = decoding(dicom_zip(tmp_path / "a.zip", [*files, copy]))
    assert decoded.geometry.size == (7, 6, 3)
    assert decoded.about["duplicate_files_dropped"] == 1


def test_two_files_of_one_identity(tmp_path: Path, refusal: Refuse) -> None:
    files = stacked(tmp_path / "s", upright([0, 2]))
    files += [
        dicom_slice(tmp_path / "s" / f"x{k}", PIXELS * k, (0, 0, 4), "1.2.3.4", SOPInstanceUID="1.9") for k in (1, 2)
    ]
    error = refusal(dicom_zip(tmp_path / "a.zip", files))
    assert isinstance(error, CorruptInput)
    assert error.code == "duplicate-slices"


# Table row: gantry tilt, which ITK reads without a word.
@pytest.mark.parametrize("degrees", [17.0, 0.5])
def test_a_tilted_gantry(tmp_path: Path, refusal: Refuse, degrees: float) -> None:
    drift = float(np.tan(np.radians(degrees)))
    path = dicom_zip(tmp_path / "a.zip", stacked(tmp_path / "s", [(0.0, 3.0 * k * drift, 3.0 * k) for k in range(6)]))
    error = refusal(path)
    assert error.code == "gantry-tilt"
    assert error.facts["degrees"] == pytest.approx(degrees, abs=0.01)


def test_slices_that_zigzag(tmp_path: Path, refusal: Refuse) -> None:
    path = dicom_zip(tmp_path / "a.zip", stacked(tmp_path / "s", [(0.0, k % 2 * 2.0, 3.0 * k) for k in range(7)]))
    assert refusal(path).code == "gantry-tilt"


# Table row: rescale slopes that vary.
@pytest.mark.parametrize("change", [{"RescaleSlope": 2}, {"RescaleIntercept": -1024}])
def test_varying_rescaling(tmp_path: Path, refusal: Refuse, change: dict[str, Any]) -> None:
    files = stacked(tmp_path / "s", upright([0, 2]))
    files.append(dicom_slice(tmp_path / "s" / "x", PIXELS, (0, 0, 4), "1.2.3.4", **change))
    assert refusal(dicom_zip(tmp_path / "a.zip", files)).code == "varying-rescale"


def test_one_rescaling_for_all_is_applied(tmp_path: Path, decoding: Decode) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    files = [
        dicom_slice(folder / f"{k}", PIXELS, (0, 0, 2.0 * k), "1.2.3.4", RescaleSlope=2, RescaleIntercept=-1024)
        for k in range(3)
    ]
    decoded = decoding(dicom_zip(tmp_path / "a.zip", files))
    assert np.array_equal(voxels_of(decoded)[0], PIXELS * 2 - 1024)


# Table row: mixed rows and columns.
def test_mixed_sizes(tmp_path: Path, refusal: Refuse) -> None:
    files = stacked(tmp_path / "s", upright([0, 2]))
    files.append(dicom_slice(tmp_path / "s" / "x", PIXELS[:5], (0, 0, 4), "1.2.3.4"))
    error = refusal(dicom_zip(tmp_path / "a.zip", files))
    assert error.code == "mixed-slices"
    assert "5 × 7" in error.message


@pytest.mark.parametrize(
    "change", [{"PixelSpacing": ["0.9", "0.9"]}, {"ImageOrientationPatient": ["0", "1", "0", "1", "0", "0"]}]
)
def test_mixed_spacings_and_directions(tmp_path: Path, refusal: Refuse, change: dict[str, Any]) -> None:
    files = stacked(tmp_path / "s", upright([0, 2]))
    files.append(dicom_slice(tmp_path / "s" / "x", PIXELS, (0, 0, 4), "1.2.3.4", **change))
    assert refusal(dicom_zip(tmp_path / "a.zip", files)).code == "mixed-slices"


@pytest.mark.parametrize("spacing", [["0", "1"], ["-1", "1"]])
def test_pixel_spacings_that_are_no_length(tmp_path: Path, refusal: Refuse, spacing: list[str]) -> None:
    (tmp_path / "s").mkdir()
    files = [dicom_slice(tmp_path / "s" / f"{k}", PIXELS, (0, 0, k), "1.2.3.4", PixelSpacing=spacing) for k in range(3)]
    assert refusal(dicom_zip(tmp_path / "a.zip", files)).code == "invalid-spacing"


def test_a_single_slice(tmp_path: Path, refusal: Refuse) -> None:
    assert refusal(dicom_zip(tmp_path / "a.zip", stacked(tmp_path / "s", upright([0])))).code == "not-3d"


# Table row: two series in a zip, of which ITK takes one.
def test_two_series_are_listed_and_one_can_be_chosen(
    tmp_path: Path, decoding: Decode, refusal: Refuse, oblique: Volume
) -> None:
    files = dicom_files(tmp_path / "one", oblique, "1.2.1")
    files += stacked(tmp_path / "two", upright([0, 2, 4]), "1.2.2")
    path = dicom_zip(tmp_path / "a.zip", files)
    error = refusal(path)
    assert isinstance(error, UnsupportedMedia)
    assert error.code == "several-series"
    assert error.facts["series"] == [
        {"series_uid": "1.2.1", "modality": "CT", "slices": 7, "rows": 9, "columns": 11},
        {"series_uid": "1.2.2", "modality": "CT", "slices": 3, "rows": 6, "columns": 7},
    ]
    decoded = decoding(path, series_uid="1.2.1")
    assert np.array_equal(voxels_of(decoded), oblique.array)
    assert decoded.about["files_left_aside"] == {"slices-of-other-series": 3}
    assert refusal(path, series_uid="1.2.9").code == "series-not-found"


def test_localizers_captures_and_other_files_are_left_aside_and_told(
    tmp_path: Path, decoding: Decode, oblique: Volume
) -> None:
    files = dicom_files(tmp_path / "s", oblique, storage=MR)
    scout, capture, text = (tmp_path / "s" / name for name in ("scout", "capture", "text"))
    dicom_slice(scout, PIXELS, (0, 0, 0), "1.5", storage=MR, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    dicom_slice(capture, PIXELS, (0, 0, 0), "1.6", storage="1.2.840.10008.5.1.4.1.1.7")
    text.write_text("exported by a viewer")
    decoded = decoding(dicom_zip(tmp_path / "a.zip", [*files, scout, capture, text]))
    assert np.array_equal(voxels_of(decoded), oblique.array)
    assert decoded.about["modality"] == "MR"
    assert decoded.about["files_left_aside"] == {"localizer": 1, "secondary-capture": 1, "not-dicom": 1}


@pytest.mark.parametrize(
    ("storage", "kind"),
    [
        ("1.2.840.10008.5.1.4.1.1.7", "secondary-capture"),
        ("1.2.840.10008.5.1.4.1.1.2.1", "multi-frame"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "segmentation-or-registration"),
        ("1.2.840.10008.5.1.4.1.1.88.11", "report"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "radiotherapy"),
        ("1.2.840.10008.5.1.4.1.1.6.1", "other"),
    ],
)
def test_objects_that_are_no_slices_make_no_series(tmp_path: Path, refusal: Refuse, storage: str, kind: str) -> None:
    (tmp_path / "s").mkdir()
    files = [dicom_slice(tmp_path / "s" / f"{k}", PIXELS, (0, 0, k), "1.2", storage=storage) for k in range(3)]
    error = refusal(dicom_zip(tmp_path / "a.zip", files))
    assert error.code == "no-usable-series"
    assert error.facts["found"] == {kind: 3}


def test_slices_without_a_position_make_no_series(tmp_path: Path, refusal: Refuse) -> None:
    files = stacked(tmp_path / "s", upright([0, 2]))
    for file in files:
        dataset = dcmread(file)
        del dataset.ImagePositionPatient
        dataset.save_as(file)
    error = refusal(dicom_zip(tmp_path / "a.zip", files))
    assert error.code == "no-usable-series"
    assert error.facts["found"] == {"without-position": 2}


@pytest.mark.parametrize("at_end", [True, False])
def test_a_truncated_slice_is_not_just_left_out(tmp_path: Path, refusal: Refuse, at_end: bool) -> None:
    files = stacked(tmp_path / "s", upright([0, 2, 4, 6]))
    damaged = files[-1] if at_end else files[1]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    error = refusal(dicom_zip(tmp_path / "a.zip", files))
    assert error.code == "corrupt-slice"
    assert error.facts["entry"] == (4 if at_end else 2)


def compressed(folder: Path, files: list[Path]) -> list[Path]:
    for file in files:
        dataset = dcmread(file)
        dataset.compress(RLELossless)
        dataset.save_as(file)
    return files


def test_a_compressed_series_is_read(tmp_path: Path, decoding: Decode, oblique: Volume) -> None:
    files = compressed(tmp_path, dicom_files(tmp_path / "s", oblique))
    assert np.array_equal(voxels_of(decoding(dicom_zip(tmp_path / "a.zip", files))), oblique.array)


def test_a_truncated_compressed_slice(tmp_path: Path, refusal: Refuse, oblique: Volume) -> None:
    files = compressed(tmp_path, dicom_files(tmp_path / "s", oblique))
    files[2].write_bytes(files[2].read_bytes()[:-30])
    assert refusal(dicom_zip(tmp_path / "a.zip", files)).code == "corrupt-slice"


@pytest.mark.parametrize("wish", [None, "1.9"])
def test_errors_list_few_series_and_only_plain_identifiers(tmp_path: Path, refusal: Refuse, wish: str | None) -> None:
    (tmp_path / "s").mkdir()
    limits = replace(SMALL, max_files=100)
    files = [dicom_slice(tmp_path / "s" / "words", PIXELS, (0, 0, 0), "1.2")]
    files[0].write_bytes(files[0].read_bytes().replace(b"UI\4\0" + b"1.2\0", b"UI\4\0" + b"<b>\0"))
    files += [dicom_slice(tmp_path / "s" / f"{k:02}", PIXELS, (0, 0, 0), f"1.2.{k}") for k in range(60)]
    error = refusal(dicom_zip(tmp_path / "a.zip", files), wish, limits)
    assert error.code == ("series-not-found" if wish else "several-series")
    assert "61" in error.message
    assert [one["series_uid"] for one in error.facts["series"]] == ["?", *(f"1.2.{k}" for k in range(49))]


def test_errors_list_few_sizes(tmp_path: Path, refusal: Refuse) -> None:
    (tmp_path / "s").mkdir()
    files = [dicom_slice(tmp_path / "s" / f"{k}", np.zeros((k + 2, 3)), (0, 0, k), "1.2") for k in range(9)]
    error = refusal(dicom_zip(tmp_path / "a.zip", files))
    assert error.code == "mixed-slices"
    assert error.message.endswith("2 × 3, 3 × 3, 4 × 3, 5 × 3, 6 × 3 and 4 more")


def test_a_file_of_a_real_scanner_is_recognised(tmp_path: Path, refusal: Refuse) -> None:
    path = get_testdata_file("CT_small.dcm", download=False)
    assert isinstance(path, str)
    assert refusal(dicom_zip(tmp_path / "a.zip", [Path(path)])).code == "not-3d"


def test_too_many_voxels_are_refused_before_any_is_read(tmp_path: Path, refusal: Refuse) -> None:
    big: Array = np.zeros((200, 260), np.int16)
    files = dicom_files(tmp_path / "s", volume_of(np.stack([big, big])))
    assert refusal(dicom_zip(tmp_path / "a.zip", files)).code == "too-many-voxels"
