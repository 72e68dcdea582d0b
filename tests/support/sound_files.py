"""One small sound file of every kind that the decoders meet, and one picture: what mutation.py damages.

Made without chance or clock, so that a seed names the same damaged file on every machine.
"""

import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from tests.support.media_files import CT, dicom_slice, dicom_zip, replaced, written, zipped
from tests.support.volumes import volume_of
from worker.contract import Volume

#: Zips take a decoding process each, and so a quarter of a second; everything else takes milliseconds.
PLAIN = ("nii", "nii-scaled", "nii-gz", "nrrd", "nrrd-gzip", "mha", "mha-zlib", "png")
ZIPPED = ("zip-mhd", "dicom", "dicom-deflate", "dicom-implicit", "dicom-rle", "dicom-jpeg", "dicom-j2k", "dicom-jls")
#: Kinds that no volume can come of.
NEVER_A_VOLUME = frozenset({"png"})
_OF_A_SCANNER = {
    "dicom-implicit": "MR_small_implicit.dcm",
    "dicom-rle": "MR_small_RLE.dcm",
    "dicom-j2k": "MR_small_jp2klossless.dcm",
    "dicom-jls": "MR_small_jpeg_ls_lossless.dcm",
}


def sound_files(folder: Path) -> dict[str, bytes]:
    """The content of each kind in PLAIN and ZIPPED; `folder` is used on the way."""
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    volume = volume_of(array, "RAS", (5, 3, -4), (1.0, 1.5, 2.0), (3.0, -7.5, 11.25))
    written(volume, folder / "a.mhd")
    slices = _slices(folder, volume)
    paths = {
        "nii": written(volume, folder / "a.nii"),
        "nii-scaled": _big_endian_scaled(folder / "scaled.nii"),
        "nii-gz": written(volume, folder / "a.nii.gz"),
        "nrrd": written(volume, folder / "a.nrrd"),
        "nrrd-gzip": written(volume, folder / "packed.nrrd", compress=True),
        "mha": written(volume, folder / "a.mha"),
        "mha-zlib": _packed_mha(written(volume, folder / "packed.mha")),
        "png": _picture(folder / "a.png"),
        "zip-mhd": zipped(folder / "mhd.zip", {"scan.mhd": folder / "a.mhd", "a.raw": folder / "a.raw"}),
        "dicom": dicom_zip(folder / "dicom.zip", slices),
        "dicom-deflate": zipped(folder / "deflate.zip", {path.name: path for path in slices}),
        "dicom-jpeg": dicom_zip(folder / "jpeg.zip", _jpeg_slices(folder, volume)),
        **{kind: dicom_zip(folder / f"{kind}.zip", _scanned(folder, kind)) for kind in _OF_A_SCANNER},
    }
    return {kind: paths[kind].read_bytes() for kind in (*PLAIN, *ZIPPED)}


def _big_endian_scaled(path: Path) -> Path:
    """Floats in the other byte order, with a slope: the other half of the NIfTI reader."""
    untyped: Any = nibabel
    header = untyped.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">f4"))
    values = np.linspace(-3, 5, 120, dtype=np.float32).reshape(6, 5, 4)
    image = untyped.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0]), header)
    image.header.set_slope_inter(2.0, -1.0)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    untyped.save(image, path)
    return path


def _packed_mha(path: Path) -> Path:
    """Packed by zlib here, since SimpleITK's MetaImage writer leaves small volumes as they are."""
    replaced(path, b"CompressedData = False", b"CompressedData = True")
    head, mark, voxels = path.read_bytes().partition(b"LOCAL\n")
    path.write_bytes(head + mark + zlib.compress(voxels))
    return path


def _picture(path: Path) -> Path:
    Image.fromarray(np.arange(12 * 9 * 3, dtype=np.uint8).reshape(12, 9, 3)).save(path)
    return path


def _slices(folder: Path, volume: Volume) -> list[Path]:
    (folder / "s").mkdir()
    step = np.reshape(volume.geometry.direction, (3, 3))[:, 2] * volume.geometry.spacing[2]
    return [
        dicom_slice(
            folder / "s" / f"IM{k}",
            plane,
            tuple(volume.geometry.origin + k * step),
            "1.2.3.4",
            geometry=volume.geometry,
            SOPInstanceUID=f"1.2.3.4.{k}",
        )
        for k, plane in enumerate(volume.array)
    ]


def _jpeg_slices(folder: Path, volume: Volume) -> list[Path]:
    """Lossless JPEG, by SimpleITK."""
    (folder / "jpeg").mkdir()
    paths = []
    for k, plane in enumerate(volume.array):
        image = sitk.GetImageFromArray(plane[None])
        image.SetSpacing((0.7, 0.8, 2.0))
        image.SetOrigin((0.0, 0.0, 2.0 * k))
        tags = {
            "0008|0016": CT,
            "0008|0018": f"1.2.3.5.{k}",
            "0020|000e": "1.2.3.5",
            "0020|000d": "1.2.3",
            "0008|0060": "CT",
            "0008|0020": "20260101",
            "0008|0030": "120000",
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
            "0020|0032": f"0\\0\\{2 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        paths.append(folder / "jpeg" / f"IM{k}")
        writer.SetFileName(str(paths[-1]))
        writer.Execute(image)
    return paths


def _scanned(folder: Path, kind: str) -> list[Path]:
    """Three slices of one file from a scanner, in the coding that it came in."""
    (folder / kind).mkdir()
    path = get_testdata_file(_OF_A_SCANNER[kind], download=False)
    paths = []
    for k in range(3):
        dataset = dcmread(str(path))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.6.{k}")
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, float(z) + 2 * k]
        paths.append(folder / kind / f"IM{k}")
        dataset.save_as(paths[-1])
    return paths
