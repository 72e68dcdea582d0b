"""The model that comes with Fleet, on the scan that comes with Fleet, through files and back."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from scipy import ndimage

from tests.support.clone import ROOT
from tests.support.media_files import MR, dicom_files, dicom_zip, written
from tests.support.ort_model import OrtModel, RecordedProgress
from worker.contract import Encoded, Mask, Source, Volume
from worker.media.encoder import encode_mask
from worker.media.limits import VolumeLimits
from worker.media.reader import VolumeReader
from worker.tasks.segmentation import TASK

SCAN = ROOT / "examples" / "data" / "head-t1.nii.gz"
MODEL = ROOT / "models" / "brain-extraction"


@pytest.fixture(scope="module")
def model() -> OrtModel:
    manifest = yaml.safe_load((MODEL / "model.yaml").read_text("utf-8"))
    return OrtModel(MODEL / "1" / "model.onnx", TASK.Settings.model_validate(manifest["pipeline"]), manifest["labels"])


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return read(SCAN, tmp_path_factory.mktemp("scratch"))


def read(path: Path, scratch: Path) -> Volume:
    reader = VolumeReader(VolumeLimits(), scratch)
    try:
        return reader.read(Source(path, path.name, ""), RecordedProgress())
    finally:
        reader.close()


@pytest.fixture(scope="module")
def mask(model: OrtModel, scan: Volume) -> Mask:
    return TASK.run(scan, TASK.Params(), model, RecordedProgress())


@pytest.fixture(scope="module")
def encoded(mask: Mask, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    return encode_mask(mask, tmp_path_factory.mktemp("mask"))


def test_the_model_fits_its_settings(model: OrtModel) -> None:
    assert list(TASK.check(model)) == []


def test_the_brain_has_a_plausible_volume_in_one_piece_without_holes(encoded: Encoded) -> None:
    (label,) = encoded.result["labels"]
    assert label["name"] == "brain"
    assert 1350 <= label["volume_ml"] <= 1500
    image = nibabel.load(encoded.files[0].path)
    brain = np.asarray(image.dataobj) == 1
    assert brain.sum() * abs(np.linalg.det(image.affine)) / 1000 == pytest.approx(label["volume_ml"], abs=0.01)
    assert ndimage.label(brain)[1] == 1
    assert np.array_equal(ndimage.binary_fill_holes(brain), brain)
    assert np.unique(np.asarray(image.dataobj)).tolist() == [0, 1]


def test_the_mask_lies_exactly_on_the_scan(encoded: Encoded) -> None:
    scan, mask = nibabel.load(SCAN), nibabel.load(encoded.files[0].path)
    assert mask.shape == scan.shape
    assert np.abs(mask.affine - scan.affine).max() < 1e-5
    itk_scan, itk_mask = sitk.ReadImage(str(SCAN)), sitk.ReadImage(str(encoded.files[0].path))
    assert itk_mask.GetSize() == itk_scan.GetSize()
    # Refuses images on different grids.
    assert sitk.GetArrayFromImage(sitk.Mask(itk_scan, itk_mask)).any()


def test_the_facts_say_what_was_done(encoded: Encoded) -> None:
    facts = encoded.result["facts"]
    assert facts["source_orientation"] == "RAS"
    assert facts["grid"] == [128, 128, 128]
    assert facts["resampled"]
    assert facts["mirrored"]
    assert (facts["windows"], facts["passes"]) == (1, 8)
    assert facts["warnings"] == []


def test_one_pass_is_asked_for_and_still_plausible(model: OrtModel, scan: Volume) -> None:
    progress = RecordedProgress()
    quick = TASK.run(scan, TASK.Params(mirror=False, preview=False), model, progress)
    assert progress.steps == [(1, 1)]
    assert 1350 <= quick.statistics[0]["volume_ml"] <= 1500
    assert quick.preview_png is None


def test_every_container_of_the_same_scan_gives_the_same_mask(model: OrtModel, scan: Volume, tmp_path: Path) -> None:
    params = TASK.Params(mirror=False, preview=False)
    expected = TASK.run(scan, params, model, RecordedProgress())
    dicom = dicom_zip(tmp_path / "dicom.zip", dicom_files(tmp_path / "series", scan, storage=MR))
    for path in (written(scan, tmp_path / "a.nrrd"), written(scan, tmp_path / "a.mha", compress=True), dicom):
        mask = TASK.run(read(path, tmp_path), params, model, RecordedProgress())
        assert np.array_equal(mask.array, expected.array), path.name
        assert mask.statistics[0]["centroid_mm"] == pytest.approx(expected.statistics[0]["centroid_mm"], abs=0.01)
    assert mask.facts["modality"] == "MR"


def test_a_volume_that_is_stored_the_other_way_round_gives_the_same_brain(model: OrtModel, scan: Volume) -> None:
    params = TASK.Params(mirror=False, preview=False)
    expected = TASK.run(scan, params, model, RecordedProgress())
    image = sitk.GetImageFromArray(scan.array)
    image.SetSpacing(scan.geometry.spacing)
    image.SetOrigin(scan.geometry.origin)
    image.SetDirection(scan.geometry.direction)
    turned = sitk.DICOMOrient(image, "PSL")
    from worker.media.decode import geometry_of

    volume = Volume(sitk.GetArrayFromImage(turned), geometry_of(turned))
    mask = TASK.run(volume, params, model, RecordedProgress())
    back = sitk.GetImageFromArray(mask.array)
    back.CopyInformation(turned)
    restored = sitk.GetArrayFromImage(sitk.DICOMOrient(back, "RAS"))
    assert np.count_nonzero(restored != expected.array) < 20, "rounding at the threshold alone"
    assert mask.statistics[0]["centroid_mm"] == pytest.approx(expected.statistics[0]["centroid_mm"], abs=0.01)


def test_a_stripped_head_carries_a_warning(model: OrtModel, scan: Volume) -> None:
    stripped = np.zeros_like(scan.array)
    stripped[100:160, 80:160, 60:120] = scan.array[100:160, 80:160, 60:120]
    mask = TASK.run(
        Volume(stripped, scan.geometry), TASK.Params(mirror=False, preview=False), model, RecordedProgress()
    )
    assert "exactly zero" in mask.facts["warnings"][0]
