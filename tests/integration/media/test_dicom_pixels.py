"""The pixels of DICOM slices: all there, of one kind, and not inverted; ITK fills, wraps or inverts them silently."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tests.integration.media.conftest import Decode, Refuse, voxels_of
from tests.support.media_files import dicom_slice, dicom_zip

PIXELS = np.arange(6 * 7, dtype=np.int16).reshape(6, 7)
LAYOUTS = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]


def native(folder: Path, syntax: UID, cut: int = 0, **last: Any) -> list[Path]:
    """Three slices in this transfer syntax, with sequences of known and unknown length that hold pixels of their own;
    the last lacks `cut` bytes of PixelData."""
    folder.mkdir()
    paths = []
    for k in range(3):
        dataset = dcmread(dicom_slice(folder / f"{k}", PIXELS + k, (0, 0, 2.0 * k), "1.2"))
        for name, undefined in (("IconImageSequence", True), ("ReferencedImageSequence", False)):
            icon = Dataset()
            icon.PixelData = bytes(200)
            icon["PixelData"].VR = "OW"
            icon.is_undefined_length_sequence_item = undefined
            setattr(dataset, name, [icon])
            dataset[name].is_undefined_length = undefined
        numbers = (PIXELS + k).astype(">i2" if syntax == ExplicitVRBigEndian else "<i2").tobytes()
        dataset.PixelData = numbers[: len(numbers) - cut] if k == 2 else numbers
        dataset["PixelData"].VR = "OW"
        for name, value in last.items() if k == 2 else ():
            setattr(dataset, name, value)
        dataset.file_meta.TransferSyntaxUID = syntax
        little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
        plain = Dataset(dataset)
        plain.file_meta, plain.preamble = dataset.file_meta, bytes(128)
        paths.append(folder / f"{k}.dcm")
        dcmwrite(paths[-1], plain, little_endian=little, implicit_vr=implicit)
    return paths


@pytest.mark.parametrize("syntax", LAYOUTS)
def test_uncompressed_slices_of_every_layout_are_read(tmp_path: Path, decoding: Decode, syntax: UID) -> None:
    decoded = decoding(dicom_zip(tmp_path / "a.zip", native(tmp_path / "s", syntax)))
    assert np.array_equal(voxels_of(decoded), np.stack([PIXELS + k for k in range(3)]))


@pytest.mark.parametrize("syntax", LAYOUTS)
@pytest.mark.parametrize("cut", [2, 68])
def test_a_slice_with_too_few_pixels(tmp_path: Path, refusal: Refuse, syntax: UID, cut: int) -> None:
    error = refusal(dicom_zip(tmp_path / "a.zip", native(tmp_path / "s", syntax, cut)))
    assert error.code == "corrupt-slice"
    assert error.facts["entry"] == 3


def test_a_slice_that_claims_more_rows_than_it_has(tmp_path: Path, refusal: Refuse) -> None:
    (tmp_path / "s").mkdir()
    files = [dicom_slice(tmp_path / "s" / f"{k}", PIXELS, (0, 0, k), "1.2", Rows=7) for k in range(3)]
    assert refusal(dicom_zip(tmp_path / "a.zip", files)).code == "corrupt-slice"


def test_a_deflated_slice(tmp_path: Path, refusal: Refuse) -> None:
    files = native(tmp_path / "s", DeflatedExplicitVRLittleEndian)
    assert refusal(dicom_zip(tmp_path / "a.zip", files)).code == "unsupported-encoding"


# ITK reads all slices into the type of the first.
@pytest.mark.parametrize("change", [{"PixelRepresentation": 0}, {"BitsStored": 12, "HighBit": 11}])
@pytest.mark.parametrize("odd", [0, 2])
def test_mixed_kinds_of_numbers(tmp_path: Path, refusal: Refuse, change: dict[str, Any], odd: int) -> None:
    (tmp_path / "s").mkdir()
    files = [
        dicom_slice(tmp_path / "s" / f"{k}", PIXELS, (0, 0, k), "1.2", **(change if k == odd else {})) for k in range(3)
    ]
    assert refusal(dicom_zip(tmp_path / "a.zip", files)).code == "mixed-slices"


@pytest.mark.parametrize("which", [{0, 1, 2}, {1}])
@pytest.mark.parametrize("found", ["MONOCHROME1", ""])
def test_inverted_brightness(tmp_path: Path, refusal: Refuse, which: set[int], found: str) -> None:
    (tmp_path / "s").mkdir()
    kinds = [found if k in which else "MONOCHROME2" for k in range(3)]
    files = [
        dicom_slice(tmp_path / "s" / f"{k}", PIXELS, (0, 0, k), "1.2", PhotometricInterpretation=kind)
        for k, kind in enumerate(kinds)
    ]
    error = refusal(dicom_zip(tmp_path / "a.zip", files))
    assert error.code == "unsupported-photometric"
    assert (found or "missing") in error.message
