"""Writes volume files for tests: sound ones, and ones with a fault put in on purpose."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from worker.contract import Array, Geometry, Volume

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


def image_of(volume: Volume) -> Any:
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.geometry.spacing)
    image.SetOrigin(volume.geometry.origin)
    image.SetDirection(volume.geometry.direction)
    return image


def written(volume: Volume, path: Path, *, compress: bool = False) -> Path:
    """By SimpleITK, in the format of the suffix."""
    sitk.WriteImage(image_of(volume), str(path), useCompression=compress)
    return path


def patched(path: Path, offset: int, kind: str, *values: float) -> Path:
    """Overwrites little-endian numbers of a header in place."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + kind, data, offset, *values)
    path.write_bytes(data)
    return path


def replaced(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    return path


def nifti(path: Path, array: Array, affine: Array | None = None, **codes: int) -> Path:
    """By nibabel; the affine is RAS and the array [x, y, z]."""
    image = nibabel.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine)
    image.set_sform(image.affine, codes.get("sform", 1))
    image.set_qform(image.affine, codes.get("qform", 1), strip_shears=True)
    nibabel.save(image, path)
    return path


def zipped(path: Path, members: Mapping[str, bytes | Path], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            # A ZipInfo has a fixed date: the same members make the same bytes.
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return path


def dicom_slice(
    path: Path,
    pixels: Array,
    position: tuple[float, ...],
    series: str,
    *,
    geometry: Geometry | None = None,
    storage: str = CT,
    **changes: Any,
) -> Path:
    """One explicit little-endian slice of int16. `geometry` gives orientation and pixel spacing."""
    direction = np.eye(3) if geometry is None else np.reshape(geometry.direction, (3, 3))
    column_mm, row_mm = (0.8, 0.7) if geometry is None else geometry.spacing[:2]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = changes.get("SOPInstanceUID", generate_uid())
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = storage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = series
    dataset.StudyInstanceUID = "1.2.3"
    dataset.Modality = "MR" if storage == MR else "CT"
    dataset.PatientName = "Somebody^Secret"
    dataset.PatientID = "4711"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    dataset.ImagePositionPatient = [_decimal(value) for value in position]
    dataset.ImageOrientationPatient = [_decimal(value) for value in (*direction[:, 0], *direction[:, 1])]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = pixels.astype("<i2").tobytes()
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _decimal(value: float) -> str:
    """A DICOM decimal string holds 16 characters."""
    return f"{value:.9f}"[:16]


def dicom_files(folder: Path, volume: Volume, series: str = "1.2.3.4", storage: str = CT, **changes: Any) -> list[Path]:
    """One file per plane of the volume, with its geometry; names tell nothing of the order."""
    folder.mkdir(exist_ok=True)
    geometry = volume.geometry
    normal = np.reshape(geometry.direction, (3, 3))[:, 2]
    origin, step = np.asarray(geometry.origin), geometry.spacing[2]
    return [
        dicom_slice(
            folder / f"IM{(k * 7919) % 10007:05}", plane, tuple(origin + k * step * normal), series,
            geometry=geometry, storage=storage, **changes,
        )
        for k, plane in enumerate(volume.array)
    ]  # fmt: skip


def dicom_zip(path: Path, files: list[Path]) -> Path:
    return zipped(path, {f"study/{file.parent.name}/{file.name}": file for file in files}, zipfile.ZIP_STORED)
