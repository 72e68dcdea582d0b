"""A file or archive of unknown content becomes voxels in a file of ours and a grid, or a typed error.

Runs in the decoding child (decoder_child.py); works in any process.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from fleet.errors import CorruptInput, GeometryError, InputTooLarge, UnsupportedMedia
from worker.contract import Array, Geometry
from worker.media import metaimage, nifti, nrrd
from worker.media.archive import Member, unpack_archive
from worker.media.dicom import scan
from worker.media.dicom_series import choose_series, stack
from worker.media.footprint import scan_bytes, single_file_bytes, single_file_scratch_bytes, slices_bytes
from worker.media.header import Header, agrees
from worker.media.limits import Admit, VolumeLimits
from worker.media.payload import check_raw, gunzip_nifti, require_finite, unpack
from worker.media.sniff import Format, not_a_volume, sniff

#: Whole numbers up to here are exact in float32; and sums of squares of floats up to there stay finite in float64.
_MOST_INTEGER, _MOST_FLOAT = float(2**24), 1e30


@dataclass(frozen=True)
class Decoded:
    """`voxels` is a raw C-order file [z, y, x] of `dtype`, in native byte order."""

    voxels: Path
    dtype: str
    geometry: Geometry
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    limits: VolumeLimits
    scratch: Path
    series_uid: str | None
    check: Callable[[], None]
    admit: Admit

    def accept(self, header: Header, source_format: str) -> None:
        """Raises InputTooLarge for what a header claims, before anything is unpacked or allocated for it."""
        self.limits.check_voxels(header.size, header.held_bytes_per_voxel)
        self.admit(
            reading(header.size, header.dtype),
            single_file_bytes(header, source_format),
            single_file_scratch_bytes(header),
        )


def reading(size: tuple[int, int, int], dtype: np.dtype[Any]) -> str:
    """For messages: what is being read."""
    return f"reading {' × '.join(map(str, size))} voxels of {dtype.name}"


def decode(
    path: Path,
    limits: VolumeLimits,
    scratch: Path,
    series_uid: str | None = None,
    check: Callable[[], None] = lambda: None,
    *,
    admit: Admit = lambda what, memory, files: None,
) -> Decoded:
    """Raises an InputError with a stable code; the table is in docs/how-to/segment-a-volume.md."""
    scratch.mkdir(parents=True, exist_ok=True)
    job = _Job(limits, scratch, series_uid, check, admit)
    head = _head(path)
    found = sniff(head)
    if found is Format.ZIP:
        return _archive(path, job)
    if found is Format.GZIP:
        unpacked = scratch / "volume.nii"
        header = gunzip_nifti(path, unpacked, lambda stated: job.accept(stated, "nifti"))
        return _single(unpacked, header, "NiftiImageIO", "nifti", job)
    return _plain(path, head, found, job)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(nrrd.MAX_HEADER_BYTES)
    except OSError as error:
        raise CorruptInput("the input file is missing or unreadable", code="missing-input") from error
    if not head:
        raise CorruptInput("the input file is empty", code="empty-input")
    return head


def _plain(path: Path, head: bytes, found: Format, job: _Job) -> Decoded:
    """One file that is not packed as a whole."""
    if found is Format.NIFTI:
        header = nifti.read_header(head)
        job.accept(header, "nifti")
        check_raw(path, header)
        link = job.scratch / "volume.nii"
        link.symlink_to(path.resolve())
        return _single(link, header, "NiftiImageIO", "nifti", job)
    if found is Format.NRRD:
        return _rewritten(path, nrrd.read_header(head), "nrrd", job)
    if found is Format.METAIMAGE:
        image = metaimage.read_header(head)
        if image.data_file is not None:
            raise UnsupportedMedia(
                "this MetaImage header keeps its voxels in another file; send both as one zip", code="detached-data"
            )
        return _rewritten(path, image.header, "mha", job)
    raise not_a_volume(found)


def _rewritten(data: Path, header: Header, source_format: str, job: _Job) -> Decoded:
    """NRRD or MetaImage: SimpleITK gets a header of ours before the unpacked voxels."""
    job.accept(header, source_format)
    suffix, reader = (".nrrd", "NrrdImageIO") if source_format == "nrrd" else (".mha", "MetaImageIO")
    target = job.scratch / f"volume{suffix}"
    unpack(data, header, target)
    return _single(target, header, reader, source_format, job)


def _single(path: Path, header: Header, image_io: str, source_format: str, job: _Job) -> Decoded:
    job.check()
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    image = _read(reader, header.size)
    geometry = geometry_of(image)
    if not any(agrees(geometry, stated) for stated in header.geometries):
        raise GeometryError(
            "the header states its geometry twice and the two differ (for NIfTI: pixdim, qform and sform); "
            "make them agree",
            code="ambiguous-geometry",
        )
    path.unlink()
    about = {"source_format": source_format, "modality": None, "warnings": _doubts(header)}
    return _kept(image, geometry, about, job)


def _doubts(header: Header) -> list[str]:
    first, *others = header.geometries
    if all(agrees(first, other) for other in others):
        return []
    return ["qform and sform place this volume differently; the one that is in scanner coordinates was used"]


def _archive(path: Path, job: _Job) -> Decoded:
    members = unpack_archive(path, job.scratch / "members", job.limits)
    if not members:
        raise UnsupportedMedia("the zip holds no files", code="empty-archive")
    volumes = [one for one in members if one.format in (Format.NIFTI, Format.NRRD, Format.METAIMAGE)]
    dicoms = [one for one in members if one.format is Format.DICOM]
    if len(volumes) + bool(dicoms) > 1:
        raise UnsupportedMedia(
            f"the zip holds {len(volumes)} volumes and {len(dicoms)} DICOM files; send one volume or one series",
            code="ambiguous-archive",
        )
    if dicoms:
        return _dicom(dicoms, len(members) - len(dicoms), job)
    if not volumes:
        raise not_a_volume(members[0].format, "the zip holds only files of which the first")
    return _zipped(volumes[0], members, job)


def _zipped(volume: Member, members: list[Member], job: _Job) -> Decoded:
    """One volume file, or an .mhd with its data beside it."""
    head = _head(volume.path)
    if volume.format is not Format.METAIMAGE or (image := metaimage.read_header(head)).data_file is None:
        return _with_others(_plain(volume.path, head, volume.format, job), len(members) - 1)
    beside = [one for one in members if one.name == volume.name.parent / str(image.data_file)]
    if not beside:
        raise UnsupportedMedia(
            "the zip lacks the file that the MetaImage header names for its voxels", code="detached-data"
        )
    return _with_others(_rewritten(beside[0].path, image.header, "mhd", job), len(members) - 2)


def _with_others(decoded: Decoded, count: int) -> Decoded:
    """Says how many files of the zip were not looked at."""
    return replace(decoded, about=decoded.about | {"files_left_aside": {"other": count}}) if count else decoded


def _dicom(dicoms: list[Member], others: int, job: _Job) -> Decoded:
    unpacked, largest = _sizes([one.path for one in dicoms])
    job.admit(f"reading {len(dicoms)} DICOM files", scan_bytes(largest), unpacked)
    found = scan([one.path for one in dicoms], job.check)
    chosen = stack(choose_series(found, job.series_uid))
    job.limits.check_voxels(chosen.geometry.size, 4)
    dtype = _dtype_of(int(chosen.slices[0].encoding[3]))
    voxels = int(np.prod(chosen.geometry.size, dtype=np.int64)) * dtype.itemsize
    memory = slices_bytes(chosen.geometry.size, dtype.itemsize, largest)
    job.admit(reading(chosen.geometry.size, dtype), memory, unpacked + voxels)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(one.path) for one in chosen.slices])
    image = _read(reader, chosen.geometry.size)
    if not agrees(geometry_of(image), chosen.geometry):
        raise GeometryError("SimpleITK reads another geometry than the slices state", code="ambiguous-geometry")
    aside = dict(found.aside) | ({"not-dicom": others} if others else {})
    other_series = len(found.slices) - len(chosen.slices) - chosen.duplicates
    if other_series:
        aside["slices-of-other-series"] = other_series
    about: dict[str, Any] = {"source_format": "dicom", "modality": chosen.slices[0].modality, "warnings": []}
    if aside:
        about["files_left_aside"] = aside
    if chosen.duplicates:
        about["duplicate_files_dropped"] = chosen.duplicates
    return _kept(image, geometry_of(image), about, job)


def _dtype_of(pixel_id: int) -> np.dtype[Any]:
    """Numpy's name for SimpleITK's type of a pixel."""
    array: Array = sitk.GetArrayViewFromImage(sitk.Image([1, 1], pixel_id))
    return array.dtype


def _sizes(paths: list[Path]) -> tuple[int, int]:
    """Bytes of all files, and of the largest."""
    sizes = [path.stat().st_size for path in paths]
    return sum(sizes), max(sizes)


def _read(reader: Any, size: tuple[int, int, int]) -> Any:
    """SimpleITK's image with exactly three axes of this size; its own messages, which show paths, are not passed on."""
    try:
        if isinstance(reader, sitk.ImageFileReader):
            reader.ReadImageInformation()
            if reader.GetDimension() > 3:
                reader.SetExtractSize([*reader.GetSize()[:3], *[0] * (reader.GetDimension() - 3)])
        image = reader.Execute()
    except MemoryError as error:
        raise _too_large() from error
    except RuntimeError as error:
        if "alloc" in str(error):
            raise _too_large() from error
        if "orthonormal" in str(error):
            raise GeometryError("the axes are not at right angles to each other", code="sheared-direction") from error
        raise CorruptInput("SimpleITK cannot read this volume: it is damaged", code="unreadable-volume") from error
    if image.GetSize() != size or image.GetNumberOfComponentsPerPixel() != 1:
        raise CorruptInput("SimpleITK reads other dimensions than the header states", code="unreadable-volume")
    return image


def _too_large() -> InputTooLarge:
    return InputTooLarge("the volume does not fit into the memory set aside for decoding", code="too-many-bytes")


def geometry_of(image: Any) -> Geometry:
    """An image's grid in the contract's terms."""
    return Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def _kept(image: Any, geometry: Geometry, about: dict[str, Any], job: _Job) -> Decoded:
    """Writes the voxels, as int16 where that loses nothing: most CT and MR then take half the memory."""
    array = sitk.GetArrayViewFromImage(image)
    dtype = _narrowest(array)
    target = job.scratch / "voxels.raw"
    with target.open("wb") as out:
        for plane in array:
            job.check()
            require_finite(plane)
            _require_float32_range(plane, dtype)
            out.write(np.ascontiguousarray(plane, dtype=dtype).data)
    return Decoded(target, dtype.str, geometry, about)


def _require_float32_range(plane: Array, dtype: np.dtype[Any]) -> None:
    """Networks compute in float32: what that cannot hold to the unit would be changed in silence."""
    most = _MOST_FLOAT if plane.dtype.kind == "f" else _MOST_INTEGER
    if dtype.itemsize > 2 and max(-float(plane.min()), float(plane.max())) > most:
        raise UnsupportedMedia(
            f"voxels beyond ±{most:g} cannot be held in float32: rescale the volume to the scanner's units",
            code="extreme-voxels",
        )


def _narrowest(array: Array) -> np.dtype[Any]:
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2:
        bounds = np.iinfo(np.int16)
        if bounds.min <= array.min() and array.max() <= bounds.max:
            return np.dtype(np.int16)
    return array.dtype
