"""DICOM series: every file's header, sorted into slices of series and everything else.

Nothing of the patient leaves this module: what is kept of a file are geometry, modality, rescaling, and the unique
identifiers needed to tell series and instances apart.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from fleet.errors import CorruptInput, UnsupportedMedia
from worker.media.dicom_pixels import DEFLATED, NATIVE_SYNTAXES, native_pixel_bytes

_SLICES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
}
#: Storage classes by the root of their UID, for telling users what was left aside.
_ASIDE = (
    ("1.2.840.10008.5.1.4.1.1.7", "secondary-capture"),
    ("1.2.840.10008.5.1.4.1.1.2", "multi-frame"),
    ("1.2.840.10008.5.1.4.1.1.4", "multi-frame"),
    ("1.2.840.10008.5.1.4.1.1.128", "multi-frame"),
    ("1.2.840.10008.5.1.4.1.1.66", "segmentation-or-registration"),
    ("1.2.840.10008.5.1.4.1.1.88", "report"),
    ("1.2.840.10008.5.1.4.1.1.481", "radiotherapy"),
    ("1.2.840.10008.1.3.10", "directory"),
)
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


@dataclass(frozen=True)
class Slice:
    """One image. Positions and spacings in mm, LPS; `spacing` is (between rows, between columns).

    `encoding` is what its numbers are made of: bits allocated and stored, representation, SimpleITK's pixel type.
    """

    path: Path
    instance: str
    series: str
    modality: str
    rows: int
    columns: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    rescale: tuple[float, float]
    components: int
    photometric: str
    encoding: tuple[float, ...]


@dataclass(frozen=True)
class Scan:
    """What a folder of DICOM files holds: slices, and how many files of which kind were left aside."""

    slices: list[Slice]
    aside: Counter[str]


def scan(paths: list[Path], check: Callable[[], None] = lambda: None) -> Scan:
    """Reads every header. Raises CorruptInput or UnsupportedMedia for a slice that cannot be read."""
    slices: list[Slice] = []
    aside: Counter[str] = Counter()
    for number, path in enumerate(paths, start=1):
        check()
        storage_class, syntax = file_meta(path)
        if storage_class not in _SLICES:
            aside[_kind(storage_class)] += 1
            continue
        found = _read(path, number, _SLICES[storage_class], syntax)
        if isinstance(found, str):
            aside[found] += 1
        else:
            slices.append(found)
    return Scan(slices, aside)


def file_meta(path: Path) -> tuple[str, str]:
    """Storage class and transfer syntax from the file meta group, which is explicit little endian in every file."""
    with path.open("rb") as file:
        head = file.read(4096)
    found = {b"\x02\x00\x02\x00": "", b"\x02\x00\x10\x00": ""}
    at = 132
    while at + 8 <= len(head) and head[at : at + 2] == b"\x02\x00":
        tag, kind = head[at : at + 4], head[at + 4 : at + 6]
        if kind in (b"OB", b"UN"):
            length, start = int.from_bytes(head[at + 8 : at + 12], "little"), at + 12
        else:
            length, start = int.from_bytes(head[at + 6 : at + 8], "little"), at + 8
        if tag in found:
            found[tag] = head[start : start + length].decode("latin-1").rstrip("\0 ")
        at = start + length
    return found[b"\x02\x00\x02\x00"], found[b"\x02\x00\x10\x00"]


def _kind(storage_class: str) -> str:
    return next((kind for root, kind in _ASIDE if f"{storage_class}.".startswith(f"{root}.")), "other")


def _read(path: Path, number: int, modality: str, syntax: str) -> Slice | str:
    """A slice, or the kind that it is instead."""
    # Before GDCM sees it: on a cut-off stream it takes seconds and gigabytes for what it believes to be a length.
    if syntax == DEFLATED:
        raise _unsupported(number, "is deflated as a whole")
    if syntax not in NATIVE_SYNTAXES and not _ends_its_pixels(path):
        raise corrupt_slice(number)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise corrupt_slice(number) from error
    tags = _Tags(reader)
    if "LOCALIZER" in tags.text("0008|0008").upper().split("\\"):
        return "localizer"
    columns, rows, frames = (*reader.GetSize(), 1)[:3]
    if frames > 1:
        return "multi-frame"
    position, orientation = tags.numbers("0020|0032"), tags.numbers("0020|0037")
    spacing = tags.numbers("0028|0030")
    if (len(position), len(orientation), len(spacing)) != (3, 6, 2):
        return "without-position"
    allocated, stored, signed = (tags.numbers(tag) for tag in ("0028|0100", "0028|0101", "0028|0103"))
    if (len(allocated), len(stored), len(signed)) != (1, 1, 1):
        raise corrupt_slice(number)
    if allocated[0] not in (8, 16, 32, 64):
        raise _unsupported(number, "keeps its pixels in something else than whole bytes")
    components = reader.GetNumberOfComponents()
    if syntax in NATIVE_SYNTAXES and native_pixel_bytes(path, syntax) < rows * columns * components * allocated[0] / 8:
        raise corrupt_slice(number)
    slope, intercept = tags.numbers("0028|1053") or (1.0,), tags.numbers("0028|1052") or (0.0,)
    return Slice(
        path=path,
        instance=tags.text("0008|0018"),
        series=tags.text("0020|000e"),
        modality=modality,
        rows=rows,
        columns=columns,
        position=position,
        orientation=orientation,
        spacing=spacing,
        rescale=(slope[0], intercept[0]),
        components=components,
        photometric=tags.text("0028|0004"),
        encoding=(allocated[0], stored[0], signed[0], reader.GetPixelID()),
    )


def _ends_its_pixels(path: Path) -> bool:
    """Whether compressed pixels are closed by their sequence delimiter, near the file's end."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        return _SEQUENCE_END in file.read()


class _Tags:
    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def text(self, tag: str) -> str:
        if not self._reader.HasMetaDataKey(tag):
            return ""
        return str(self._reader.GetMetaData(tag)).strip("\0 ")

    def numbers(self, tag: str) -> tuple[float, ...]:
        """Empty when absent or not numbers."""
        try:
            return tuple(float(part) for part in self.text(tag).split("\\"))
        except ValueError:
            return ()


def corrupt_slice(number: int) -> CorruptInput:
    return CorruptInput(
        f"the DICOM file at position {number} of the zip is an image slice, but it is damaged or cut off",
        code="corrupt-slice",
        entry=number,
    )


def _unsupported(number: int, fault: str) -> UnsupportedMedia:
    return UnsupportedMedia(
        f"the DICOM file at position {number} of the zip {fault}; export it as plain explicit little endian",
        code="unsupported-encoding",
        entry=number,
    )


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
