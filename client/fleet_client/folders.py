"""A folder as one file to send: the DICOM files in it, or the pictures."""

import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from fleet_client.errors import InputUnusable

_DICOM_AT, _DICOM = 128, b"DICM"
#: How pictures of the formats that the server reads begin; WebP's has a length in its middle.
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"BM")
_WEBP = (b"RIFF", b"WEBP")
#: The same files make the same archive, byte for byte, on any day.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1024 * 1024
#: What no text is, or what leads out of an archive somewhere: undecodable bytes, `\\`, and `C:`.
_ODD = re.compile(r"[\\\x00-\x1f\ud800-\udfff]|(?<=^.):")


def zip_folder(folder: Path) -> BinaryIO:
    """The DICOM files below `folder` in one ZIP, or if there are none the pictures; a temporary file.

    Files are told by how they begin. DICOM files are named by numbers: their names often hold a patient's name and
    nobody needs them. Pictures keep theirs, from the folder on, since answers go by them; what no archive may hold
    becomes `_`. Stored, not deflated: neither shrinks. Raises InputUnusable when there is nothing of either kind,
    and OSError for what cannot be read.
    """
    series = list(_files(folder, _is_dicom))
    if series:
        return _zipped((f"{number:06d}.dcm", path) for number, path in enumerate(series, start=1))
    pictures = list(_files(folder, _is_picture))
    if pictures:
        return _zipped((_ODD.sub("_", path.relative_to(folder).as_posix()), path) for path in pictures)
    raise InputUnusable(
        f"{folder} holds no DICOM file (none has 'DICM' at byte {_DICOM_AT}) and no picture: "
        "give single files, or pack files without a preamble into a ZIP yourself"
    )


def _zipped(entries: Iterable[tuple[str, Path]]) -> BinaryIO:
    archive = tempfile.TemporaryFile(prefix="fleet-", suffix=".zip")  # noqa: SIM115 - the caller closes it
    try:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
            for name, path in entries:
                entry = zipfile.ZipInfo(name, date_time=_EPOCH)
                entry.file_size = path.stat().st_size
                with path.open("rb") as source, bundle.open(entry, "w") as target:
                    while chunk := source.read(_CHUNK):
                        target.write(chunk)
    except BaseException:
        archive.close()
        raise
    archive.seek(0)
    return cast(BinaryIO, archive)


def _files(folder: Path, wanted: Callable[[Path], bool]) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(parent) / name).is_file() and wanted(path))


def _refuse(error: OSError) -> None:
    """A series without the files of one folder would be another series."""
    raise error


def _is_dicom(path: Path) -> bool:
    # DICOMDIR has the preamble too, but is an index, not an image.
    return path.name != "DICOMDIR" and _head(path)[_DICOM_AT:] == _DICOM


def _is_picture(path: Path) -> bool:
    head = _head(path)
    return head.startswith(_PICTURES) or (head[:4], head[8:12]) == _WEBP


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_DICOM_AT + len(_DICOM))
