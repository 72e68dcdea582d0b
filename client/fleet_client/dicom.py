"""A folder of DICOM files as one file to send."""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from fleet_client.errors import InputUnusable

_MAGIC_AT, _MAGIC = 128, b"DICM"
#: The same files make the same archive, byte for byte, on any day.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1024 * 1024


def zip_series(folder: Path) -> BinaryIO:
    """The DICOM files below `folder` in one ZIP, as a temporary file that vanishes when closed.

    Files are told by their preamble, not by their names, which are replaced by numbers: they often hold a patient's
    name and nobody needs them. Stored, not deflated: pixel data hardly shrink and the reader would have to inflate.
    Raises InputUnusable when there is no DICOM file.
    """
    archive = tempfile.TemporaryFile(prefix="fleet-", suffix=".zip")  # noqa: SIM115 - the caller closes it
    try:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
            number = 0
            for number, path in enumerate(_dicom_files(folder), start=1):
                entry = zipfile.ZipInfo(f"{number:06d}.dcm", date_time=_EPOCH)
                entry.file_size = path.stat().st_size
                with path.open("rb") as source, bundle.open(entry, "w") as target:
                    while chunk := source.read(_CHUNK):
                        target.write(chunk)
        if number == 0:
            raise InputUnusable(
                f"{folder} holds no DICOM file (none has 'DICM' at byte {_MAGIC_AT}): "
                "give a single file, or pack files without a preamble into a ZIP yourself"
            )
    except BaseException:
        archive.close()
        raise
    archive.seek(0)
    return cast(BinaryIO, archive)


def _dicom_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            # DICOMDIR has the preamble too, but is an index, not an image.
            if name != "DICOMDIR" and _has_preamble(path := Path(parent) / name):
                yield path


def _has_preamble(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(_MAGIC_AT)
        return file.read(len(_MAGIC)) == _MAGIC
