"""A mask becomes files and a JSON result. Nothing of the source's metadata is copied but its grid."""

import shutil
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from isal import igzip

from worker.contract import Encoded, EncodedFile, Geometry, Mask

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
    sitk.WriteImage(image, str(plain), useCompression=False)
    with (
        plain.open("rb") as source,
        path.open("wb") as target,
        igzip.IGzipFile("", "wb", compresslevel=1, fileobj=target, mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed, 4 * 1024**2)
    plain.unlink()


def _shown(geometry: Geometry) -> dict[str, Any]:
    return {
        "size": list(geometry.size),
        "spacing": list(geometry.spacing),
        "origin": list(geometry.origin),
        "direction": list(geometry.direction),
    }
