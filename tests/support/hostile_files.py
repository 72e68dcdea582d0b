"""Files that nobody should send, by name, each with the code of the error that it must end in.

Damaged, lying, oversized, disguised and booby-trapped ones; every code stands in docs/how-to/segment-a-volume.md. They
are refused under these limits: 100,000 voxels, 2,000,000 bytes, 50 files in an archive.
"""

import gzip
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from tests.support.media_files import dicom_slice, dicom_zip, nifti, patched, replaced, written, zipped
from tests.support.volumes import volume_of

#: As the environment of a worker.
LIMITS = {"VOLUME_MAX_VOXELS": "100000", "VOLUME_MAX_BYTES": "2000000", "ARCHIVE_MAX_FILES": "50"}
_ARRAY = np.arange(1, 1 + 8 * 9 * 10, dtype=np.int16).reshape(8, 9, 10)
_PIXELS = np.arange(6 * 7, dtype=np.int16).reshape(6, 7)


@dataclass(frozen=True)
class Hostile:
    code: str
    make: Callable[[Path], bytes]


def _plain(content: bytes) -> Callable[[Path], bytes]:
    return lambda _: content


def _sound(folder: Path) -> Path:
    return nifti(folder / "a.nii", _ARRAY)


def _header(offset: int, kind: str, *values: float) -> Callable[[Path], bytes]:
    """A sound NIfTI with other numbers at one place of its header."""
    return lambda folder: patched(_sound(folder), offset, kind, *values).read_bytes()


def _stored(array: np.ndarray[Any, Any]) -> Callable[[Path], bytes]:
    return lambda folder: nifti(folder / "a.nii", array).read_bytes()


def _packed(change: Callable[[bytes], bytes]) -> Callable[[Path], bytes]:
    """A sound .nii.gz, changed."""
    return lambda folder: change(gzip.compress(_sound(folder).read_bytes(), mtime=0))


def _line(name: str, old: bytes, new: bytes) -> Callable[[Path], bytes]:
    """A sound NRRD or MetaImage with another line in its header."""
    return lambda folder: replaced(written(volume_of(_ARRAY), folder / name), old, new).read_bytes()


def _zip(*members: tuple[str, bytes]) -> Callable[[Path], bytes]:
    return lambda folder: zipped(folder / "a.zip", dict(members)).read_bytes()


def _zip_with(entry: zipfile.ZipInfo, content: bytes) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(entry, content)
        return buffer.getvalue()

    return make


def _changed_zip(change: Callable[[bytearray], object]) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        data = bytearray(zipped(folder / "a.zip", {"a.nii": _sound(folder), "b": b"b"}).read_bytes())
        change(data)
        return bytes(data)

    return make


def _encrypted(data: bytearray) -> None:
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1


def _overlapping(data: bytearray) -> None:
    """The directory names one member twice."""
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    struct.pack_into("<I", data, second + 42, 0)


def _link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("scan.nii")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def _slices(
    heights: tuple[float, ...] = (0, 2, 4, 6),
    last: dict[str, Any] | None = None,
    drift: float = 0.0,
    change: Callable[[Path], object] = lambda path: None,
    **every: Any,
) -> Callable[[Path], bytes]:
    """A series at these heights in mm; `last` are other tags of its last slice, `change` is done to that file."""

    def make(folder: Path) -> bytes:
        files = []
        for k, height in enumerate(heights):
            tags = every | ((last or {}) if k == len(heights) - 1 else {})
            pixels = tags.pop("pixels", _PIXELS + k)
            series = tags.pop("series", "1.2.3")
            files.append(dicom_slice(folder / f"{k}", pixels, (0, drift * height, height), series, **tags))
        change(files[-1])
        return dicom_zip(folder / "a.zip", files).read_bytes()

    return make


def _shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _cut_rle(path: Path) -> None:
    dataset = dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    path.write_bytes(path.read_bytes()[:-30])


def _deflated(path: Path) -> None:
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dcmwrite(path, dataset, little_endian=True, implicit_vr=False)


def _lone_slice(folder: Path) -> bytes:
    return dicom_slice(folder / "a", _PIXELS, (0, 0, 0), "1.2.3").read_bytes()


def _picture(kind: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (64, 48), (200, 10, 10)).save(buffer, kind)
    return buffer.getvalue()


def _coloured(folder: Path) -> bytes:
    colours = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    untyped: Any = nibabel
    untyped.save(untyped.Nifti1Image(colours, np.eye(4)), folder / "a.nii")
    return (folder / "a.nii").read_bytes()


def _sheared(folder: Path) -> bytes:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[0, 1] = 0.5
    return nifti(folder / "a.nii", _ARRAY, affine, qform=0).read_bytes()


def _two_geometries(folder: Path) -> bytes:
    """Spacings that are not those of the only affine."""
    path = patched(_sound(folder), _PIXDIM + 4, "3f", 5.0, 5.0, 5.0)
    return patched(path, _CODES, "h", 0).read_bytes()


def _shortened(name: str, *, compress: bool = False) -> Callable[[Path], bytes]:
    return lambda folder: written(volume_of(_ARRAY), folder / name, compress=compress).read_bytes()[:-9]


def _gzip_bomb(folder: Path) -> bytes:
    return gzip.compress(_sound(folder).read_bytes() + bytes(30_000_000))


def _packed_mha(folder: Path, more: bytes = b"") -> bytes:
    head, _, voxels = written(volume_of(_ARRAY), folder / "a.mha").read_bytes().partition(b"LOCAL\n")
    head = head.replace(b"CompressedData = False", b"CompressedData = True")
    return head + b"LOCAL\n" + zlib.compress(voxels + more)


def _two_volumes(folder: Path) -> bytes:
    volume = _sound(folder).read_bytes()
    return _zip(("a", volume), ("b", volume))(folder)


def _with_nan() -> np.ndarray[Any, Any]:
    values = _ARRAY.astype(np.float32)
    values[3, 3, 3] = np.nan
    return values


def _head_then_zip(folder: Path) -> bytes:
    """Both a NIfTI file and an archive, to those who look from either end."""
    return _sound(folder).read_bytes()[:352] + _zip(("a.txt", b"x" * 200))(folder)


_PNG = _picture("PNG")
#: Offsets in a NIfTI-1 header.
_DIM, _PIXDIM, _UNITS, _CODES, _ROW = 40, 76, 123, 252, 280

HOSTILE = {
    # Something else.
    "png": Hostile("not-a-volume", _plain(_PNG)),
    "jpeg": Hostile("not-a-volume", _plain(_picture("JPEG"))),
    "text": Hostile("not-a-volume", _plain(b"I am no volume at all.\n" * 40)),
    "pdf": Hostile("not-a-volume", _plain(b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF\n")),
    "web-page": Hostile("not-a-volume", _plain(b"<!doctype html><script>alert(1)</script>" * 20)),
    "zeros": Hostile("not-a-volume", _plain(bytes(5000))),
    "one-byte": Hostile("not-a-volume", _plain(b"\x1f")),
    "nifti-2": Hostile("not-a-volume", _plain(struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n" + bytes(600))),
    "analyze": Hostile("not-a-volume", _plain(struct.pack("<i", 348) + bytes(400))),
    "lone-dicom": Hostile("not-a-volume", _lone_slice),
    "7z": Hostile("not-a-volume", _plain(b"7z\xbc\xaf\x27\x1c" + bytes(100))),
    # Two things at once.
    "png-then-zip": Hostile("not-a-volume", lambda folder: _PNG + _zip(("a.nii", b"x"))(folder)),
    "pdf-with-nifti-magic": Hostile("not-a-volume", _plain(b"%PDF-1.7\n".ljust(344) + b"n+1\0" + bytes(500))),
    "nifti-then-zip": Hostile("truncated-volume", _head_then_zip),
    "gzip-then-zip": Hostile("corrupt-gzip", lambda folder: gzip.compress(b"PK") + _zip(("a", b"a"))(folder)),
    # Cut off or damaged.
    "cut-nifti": Hostile("truncated-volume", lambda folder: _sound(folder).read_bytes()[:-100]),
    "cut-in-header": Hostile("truncated-volume", lambda folder: _sound(folder).read_bytes()[:350]),
    "cut-gzip": Hostile("truncated-gzip", _packed(lambda data: data[: len(data) // 2])),
    "gzip-without-end": Hostile("truncated-gzip", _packed(lambda data: data[:-1])),
    "gzip-wrong-sum": Hostile("corrupt-gzip", _packed(lambda data: data[:-8] + b"\0\1\2\3" + data[-4:])),
    "cut-nrrd": Hostile("truncated-volume", _shortened("a.nrrd")),
    "cut-mha": Hostile("truncated-volume", _shortened("a.mha")),
    "cut-packed-nrrd": Hostile("truncated-gzip", _shortened("a.nrrd", compress=True)),
    "cut-packed-mha": Hostile("corrupt-stream", lambda folder: _packed_mha(folder)[:-5]),
    "cut-zip": Hostile("corrupt-zip", _changed_zip(lambda data: data.__delitem__(slice(-30, None)))),
    "zip-with-a-hole": Hostile("corrupt-zip", _changed_zip(lambda data: data.__delitem__(slice(100, 140)))),
    "zip-overlapping": Hostile("corrupt-zip", _changed_zip(_overlapping)),
    # Headers that lie.
    "a-million-million-voxels": Hostile("too-many-voxels", _header(_DIM, "4h", 3, 10000, 10000, 10000)),
    "more-than-there-is": Hostile("truncated-volume", _header(_DIM, "4h", 3, 30, 30, 30)),
    "no-dimensions": Hostile("invalid-header", _header(_DIM, "4h", 0, 8, 9, 10)),
    "negative-dimension": Hostile("invalid-header", _header(_DIM, "4h", 3, -8, 9, 10)),
    "four-dimensions": Hostile("not-3d", _stored(np.ones((4, 4, 4, 3), np.int16))),
    "colours": Hostile("not-scalar", _coloured),
    "nrrd-of-4000-digits": Hostile("invalid-header", _line("a.nrrd", b"sizes: 10 9 8", b"sizes: 10 9 " + b"9" * 4000)),
    "nrrd-names-a-file": Hostile("detached-data", _line("a.nrrd", b"type:", b"data file: /etc/passwd\ntype:")),
    "mha-names-a-file": Hostile("detached-data", _line("a.mha", b"= LOCAL", b"= /etc/passwd")),
    "mha-negative-header": Hostile("unsupported-encoding", _line("a.mha", b"NDims = 3", b"NDims = 3\nHeaderSize = -1")),
    # Where the volume lies.
    "nan-spacing": Hostile("invalid-spacing", _header(_PIXDIM + 4, "f", float("nan"))),
    "zero-spacing": Hostile("invalid-spacing", _header(_PIXDIM + 4, "f", 0.0)),
    "infinite-affine": Hostile("invalid-spacing", _header(_ROW, "f", float("inf"))),
    "nan-origin": Hostile("invalid-origin", _header(_ROW + 12, "f", float("nan"))),
    "nrrd-nan-direction": Hostile("invalid-spacing", _line("a.nrrd", b"(1,0,0)", b"(nan,0,0)")),
    "sheared": Hostile("sheared-direction", _sheared),
    "no-orientation": Hostile("no-orientation", _header(_CODES, "2h", 0, 0)),
    "unknown-unit": Hostile("unsupported-units", _header(_UNITS, "b", 5)),
    "spacing-against-affine": Hostile("ambiguous-geometry", _two_geometries),
    # Voxels.
    "nan-voxel": Hostile("non-finite-voxels", _stored(_with_nan())),
    "extreme-voxel": Hostile("extreme-voxels", _stored(np.full((4, 4, 4), 2**30, np.int32))),
    # Too much.
    "too-large-a-file": Hostile("too-many-bytes", _plain(bytes(2_000_001))),
    "gzip-bomb": Hostile("decompression-bomb", _gzip_bomb),
    "mha-bomb": Hostile("decompression-bomb", lambda folder: _packed_mha(folder, bytes(30_000_000))),
    "zip-bomb": Hostile("decompression-bomb", _zip(("a", bytes(30_000_000)))),
    "zip-of-many-files": Hostile("too-many-files", _zip(*((f"{k}", b"x") for k in range(51)))),
    # Archives.
    "gzip-in-gzip": Hostile("nested-archive", _plain(gzip.compress(gzip.compress(b"x" * 50)))),
    "zip-in-zip": Hostile("nested-archive", _zip(("inner.zip", b"PK\x03\x04" + bytes(60)))),
    "empty-zip": Hostile("empty-archive", _zip()),
    "zip-of-text": Hostile("not-a-volume", _zip(("readme.txt", b"hello"))),
    "zip-of-two": Hostile("ambiguous-archive", _two_volumes),
    "zip-leads-up": Hostile("unsafe-archive", _zip(("../../evil.nii", b"x" * 400))),
    "zip-leads-to-root": Hostile("unsafe-archive", _zip(("/etc/cron.d/evil", b"x" * 400))),
    "zip-leads-up-on-windows": Hostile("unsafe-archive", _zip(("..\\evil.nii", b"x" * 400))),
    "zip-with-a-link": Hostile("unsafe-archive", _zip_with(_link(), b"/etc/passwd")),
    "zip-encrypted": Hostile("encrypted-archive", _changed_zip(_encrypted)),
    # DICOM.
    "dicom-missing-slice": Hostile("missing-slices", _slices((0, 2, 6, 8))),
    "dicom-twice-there": Hostile("duplicate-slices", _slices((0, 2, 2, 4))),
    "dicom-two-series": Hostile("several-series", _slices(last={"series": "1.2.9"})),
    "dicom-tilted": Hostile("gantry-tilt", _slices(drift=0.3)),
    "dicom-mixed-sizes": Hostile("mixed-slices", _slices(last={"pixels": _PIXELS[:5]})),
    "dicom-other-rescaling": Hostile("varying-rescale", _slices(last={"RescaleSlope": 2})),
    "dicom-inverted": Hostile("unsupported-photometric", _slices(PhotometricInterpretation="MONOCHROME1")),
    "dicom-zero-spacing": Hostile("invalid-spacing", _slices(PixelSpacing=["0", "1"])),
    "dicom-no-unit-vectors": Hostile("invalid-direction", _slices(ImageOrientationPatient=list("110010"))),
    "dicom-of-captures": Hostile("no-usable-series", _slices(storage="1.2.840.10008.5.1.4.1.1.7")),
    "dicom-single-slice": Hostile("not-3d", _slices((0,))),
    "dicom-cut-slice": Hostile("corrupt-slice", _slices(change=_shorter)),
    "dicom-cut-compressed-slice": Hostile("corrupt-slice", _slices(change=_cut_rle)),
    "dicom-deflated": Hostile("unsupported-encoding", _slices(change=_deflated)),
}  # fmt: skip
