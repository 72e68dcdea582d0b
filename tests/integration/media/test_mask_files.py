"""Masks as files: the source's grid to the last digit that the format holds, and nothing else of the source."""

import gzip
import io
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from fleet.errors import GeometryError
from tests.support.media_files import nifti, written
from tests.support.volumes import ball, volume_of
from worker.contract import Mask, Volume
from worker.media.decode import geometry_of
from worker.media.encoder import NOTICE, encode_mask
from worker.media.preview import draw_preview
from worker.volumes.statistics import measure

NAMES = {"nifti": "mask.nii.gz", "nrrd": "mask.nrrd", "mha": "mask.mha"}


def mask_for(volume: Volume, format_: str = "nifti", dtype: type = np.uint8) -> Mask:
    array = (volume.array > 0).astype(dtype)
    labels = {1: "thing"}
    return Mask(array, volume.geometry, labels, measure(array, volume, labels), None, format_, {"windows": 1})


@pytest.mark.parametrize("format_", NAMES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_format_holds_the_mask_on_its_grid(tmp_path: Path, oblique: Volume, format_: str, dtype: type) -> None:
    mask = mask_for(oblique, format_, dtype)
    encoded = encode_mask(mask, tmp_path)
    (file,) = encoded.files
    assert file.name == NAMES[format_]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    image = sitk.ReadImage(str(file.path))
    assert np.array_equal(sitk.GetArrayFromImage(image), mask.array)
    assert sitk.GetArrayFromImage(image).dtype == dtype
    tolerance = 1e-4 if format_ == "nifti" else 1e-12
    for name in ("spacing", "origin", "direction"):
        assert getattr(geometry_of(image), name) == pytest.approx(getattr(oblique.geometry, name), abs=tolerance)


def test_nibabel_sees_mask_and_source_in_one_place(tmp_path: Path, oblique: Volume) -> None:
    source = nibabel.load(written(oblique, tmp_path / "source.nii.gz"))
    encoded = encode_mask(mask_for(oblique), tmp_path)
    mask = nibabel.load(encoded.files[0].path)
    assert mask.shape == source.shape
    assert np.allclose(mask.affine, source.affine, atol=1e-5)
    assert np.allclose(mask.get_sform(), mask.get_qform(), atol=1e-5)
    assert mask.header.get_xyzt_units()[0] == "mm"


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path, oblique: Volume) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        encode_mask(mask_for(oblique), tmp_path / name)
    first, second = ((tmp_path / name / "mask.nii.gz").read_bytes() for name in ("a", "b"))
    assert first == second
    assert gzip.decompress(first)[344:348] == b"n+1\0"


def test_no_text_of_the_source_is_in_the_mask(tmp_path: Path) -> None:
    source = nibabel.load(nifti(tmp_path / "a.nii", np.ones((4, 5, 6), np.int16)))
    source.header["descrip"] = b"Somebody^Secret"
    nibabel.save(source, tmp_path / "b.nii")
    image = sitk.ReadImage(str(tmp_path / "b.nii"))
    volume = Volume(sitk.GetArrayFromImage(image), geometry_of(image))
    for format_ in NAMES:
        encoded = encode_mask(mask_for(volume, format_), tmp_path)
        data = encoded.files[0].path.read_bytes()
        assert b"Secret" not in (gzip.decompress(data) if format_ == "nifti" else data)


def test_the_result_names_files_grid_and_labels(tmp_path: Path, oblique: Volume) -> None:
    mask = mask_for(oblique)
    mask.preview_png = draw_preview(oblique, mask.array, mask.statistics, None)
    encoded = encode_mask(mask, tmp_path)
    assert set(encoded.result) == {"mask", "preview", "labels", "geometry", "facts", "notice"}
    assert encoded.result["mask"] == "mask.nii.gz"
    assert encoded.result["preview"] == "preview.png"
    assert encoded.result["geometry"]["size"] == [11, 9, 7]
    assert encoded.result["notice"] == NOTICE
    assert [file.media_type for file in encoded.files] == ["application/gzip", "image/png"]
    assert all(file.path.is_file() for file in encoded.files)


# Where the marked corner must be in each panel: (panel, left half?, upper half?)
@pytest.mark.parametrize("code", ["LPS", "RAS", "SPL", "AIR", "ILA"])
@pytest.mark.parametrize("modality", [None, "CT"])
def test_the_preview_shows_patient_right_on_the_left_and_anterior_up(code: str, modality: str | None) -> None:
    volume = volume_of(np.zeros((24, 26, 28), np.int16), code, (3, -4, 5), (1.0, 1.2, 0.9))
    from tests.support.volumes import positions_of

    x, y, z = positions_of(volume.geometry)
    middle = [float(axis.mean()) for axis in (x, y, z)]
    # Bright tissue in the patient's right, anterior, superior part; the mask in the middle.
    bright = (x < middle[0] - 2) & (y < middle[1] - 2) & (z > middle[2] + 2)
    volume.array = np.where(bright, 1000, -1000).astype(np.int16)
    volume.array[x > middle[0] + 4] = -990
    mask = ball(volume.geometry, 3.0).astype(np.uint8)
    for axis, sign in ((0, -1), (1, -1), (2, 1)):
        # Move the mask's centre into the bright part along the axis that a panel looks through.
        shifted = volume_of(volume.array, code, (3, -4, 5), (1.0, 1.2, 0.9))
        centre = [m + (6 * sign if k == axis else 0) for k, m in enumerate(middle)]
        mask = (np.abs(np.stack([x - centre[0], y - centre[1], z - centre[2]])).max(axis=0) < 1.5).astype(np.uint8)
        png = draw_preview(shifted, mask, [{"value": 1, "name": "a", "volume_ml": 1.0}], modality)
        picture = np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(float)
        panel = {0: 2, 1: 1, 2: 0}[axis]
        part = picture[14:434, 14 + panel * 434 : 434 + panel * 434]
        quarters = {
            (v, h): part[v * 210 + 60 : v * 210 + 150, h * 210 + 60 : h * 210 + 150].mean()
            for v in (0, 1)
            for h in (0, 1)
        }
        assert max(quarters, key=lambda quarter: quarters[quarter]) == (0, 0), (axis, quarters)


def test_a_preview_of_an_empty_mask_is_drawn_through_the_middle(oblique: Volume) -> None:
    empty = np.zeros(oblique.array.shape, np.uint8)
    entry = {"value": 1, "name": "absent", "volume_ml": 0.0}
    picture = Image.open(io.BytesIO(draw_preview(oblique, empty, [entry] * 40, "MR")))
    assert picture.format == "PNG"
    assert picture.size == (1316, 494)


def test_a_grid_that_nifti_would_bend_is_refused_there_and_exact_elsewhere(tmp_path: Path) -> None:
    straight = volume_of(np.ones((200, 200, 200), np.int16))
    turned = np.eye(3)
    turned[0, 1] = 9e-4
    turned /= np.linalg.norm(turned, axis=0)
    bent = Volume(straight.array, replace(straight.geometry, direction=tuple(turned.ravel())), {})
    with pytest.raises(GeometryError) as caught:
        encode_mask(mask_for(bent), tmp_path)
    assert caught.value.code == "nifti-inexact"
    encoded = encode_mask(mask_for(bent, "nrrd"), tmp_path)
    assert geometry_of(sitk.ReadImage(str(encoded.files[0].path))).direction == pytest.approx(
        bent.geometry.direction, abs=1e-12
    )
