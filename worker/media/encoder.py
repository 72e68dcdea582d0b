"""A mask becomes files and a JSON result. Nothing of the source's metadata is copied but its grid."""

import shutil
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from isal import igzip

from fleet.errors import GeometryError
from worker.contract import Encoded, EncodedFile, Geometry, Mask
from worker.media import nifti
from worker.media.header import agrees

_NIFTI_LONGEST_AXIS = 32767
NOTICE = "research use, not for diagnosis"
_FILES = {
    "nifti": ("mask.nii.gz", "application/gzip"),
    "nrrd": ("mask.nrrd", "application/octet-stream"),
    "mha": ("mask.mha", "application/octet-stream"),
}


def encode_mask(mask: Mask, folder: Path) -> Encoded:
    """Writes `mask.*`, and `preview.png` when there is one, into `folder`. Lengths in mm, frames LPS."""
    name, media_type = _FILES[mask.format]
    files = [EncodedFile(name, folder / name, media_type)]
    _write(mask, folder / name)
    if mask.preview_png is not None:
        preview = folder / "preview.png"
        preview.write_bytes(mask.preview_png)
        files.append(EncodedFile(preview.name, preview, "image/png"))
    result = {
        "mask": name,
        "preview": "preview.png" if mask.preview_png is not None else None,
        "labels": mask.statistics,
        "geometry": _shown(mask.geometry),
        "facts": mask.facts,
        "notice": NOTICE,
    }
    return Encoded(result, files)


def _write(mask: Mask, path: Path) -> None:
    image = sitk.GetImageFromArray(mask.array)
    image.SetSpacing(mask.geometry.spacing)
    image.SetOrigin(mask.geometry.origin)
    image.SetDirection(mask.geometry.direction)
    if mask.format != "nifti":
        sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)
        return
    # ITK's own .nii.gz takes ten times as long, whatever the level.
    plain = path.with_name("mask.nii")
    if max(mask.geometry.size) > _NIFTI_LONGEST_AXIS:
        raise _inexact(f"an axis of more than {_NIFTI_LONGEST_AXIS} voxels")
    sitk.WriteImage(image, str(plain), useCompression=False)
    with plain.open("rb") as written:
        header = nifti.read_header(written.read(nifti.HEADER_BYTES))
    if not all(agrees(geometry, mask.geometry) for geometry in header.geometries):
        raise _inexact("axes that are not quite at right angles, or an origin far away")
    with (
        plain.open("rb") as source,
        path.open("wb") as target,
        igzip.IGzipFile("", "wb", compresslevel=1, fileobj=target, mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed, 4 * 1024**2)
    plain.unlink()


def _inexact(what: str) -> GeometryError:
    return GeometryError(
        f"a NIfTI file cannot hold this volume's grid exactly ({what}): ask for the mask as `nrrd` or `mha`",
        code="nifti-inexact",
    )


def _shown(geometry: Geometry) -> dict[str, Any]:
    return {
        "size": list(geometry.size),
        "spacing": list(geometry.spacing),
        "origin": list(geometry.origin),
        "direction": list(geometry.direction),
    }
