"""Zip archives from strangers: bounded, flattened to names of ours, and never a path of theirs on our disk."""

import errno
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath

from fleet.errors import CorruptInput, InputTooLarge, UnsupportedMedia
from worker.media.limits import VolumeLimits
from worker.media.payload import CHUNK_BYTES
from worker.media.picture_limits import PictureLimits
from worker.media.sniff import HEAD_BYTES, Format, sniff

#: What file managers add without being asked.
_LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1 | 0x40
#: Of an archive's directory: 46, a name, and what archivers add to it.
_BYTES_PER_ENTRY = 512
#: What is looked through for the directory's place: the longest comment, and what stands before it.
_TAIL_BYTES = 2 * 65536
#: A ValueError is a name that is no text, or a place that is no place in a file.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)


@dataclass(frozen=True)
class Member:
    """One unpacked file. `name` is the archive's own (for pairing .mhd with its data, never for a path or a log)."""

    path: Path
    name: PurePosixPath
    format: Format


def unpack_archive(path: Path, folder: Path, limits: VolumeLimits) -> list[Member]:
    """Inflates every file of a zip into `folder` as 000001, 000002, ...

    Raises CorruptInput, InputTooLarge (too-many-files, decompression-bomb) or UnsupportedMedia (unsafe-archive,
    encrypted-archive, nested-archive).
    """
    folder.mkdir(parents=True, exist_ok=True)
    with reading_zip(), zipfile.ZipFile(path) as archive:
        return _unpack(archive, files_of(archive, limits), folder, limits)


@contextmanager
def reading_zip() -> Iterator[None]:
    """Raises CorruptInput `corrupt-zip` for whatever the block finds wrong with an archive."""
    try:
        yield
    except _BROKEN as error:
        raise _corrupt_zip() from error
    except OSError as error:
        # A place before the file's beginning, or far beyond its end. Everything else is the disk's fault.
        if error.errno == errno.EINVAL:
            raise _corrupt_zip() from error
        raise


def _corrupt_zip() -> CorruptInput:
    return CorruptInput("the zip file is damaged or was cut off: make it anew and send it again", code="corrupt-zip")


def check_directory(path: Path, limits: PictureLimits) -> None:
    """Where no child is there to be killed: a directory becomes objects of ten times its size before it is counted.

    Raises InputTooLarge `too-many-files`, and what `zipfile` finds wrong.
    """
    with _Bounded(path, limits.max_files) as file, zipfile.ZipFile(file):
        pass


class _Bounded(FileIO):
    """Of an archive nothing is read at once as it says itself, but its directory."""

    def __init__(self, path: Path, max_files: int) -> None:
        super().__init__(path)
        self._max_files = max_files

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > max(self._max_files * _BYTES_PER_ENTRY, _TAIL_BYTES):
            raise InputTooLarge(
                f"the zip's directory has {size:,} bytes, more than {self._max_files} files need",
                code="too-many-files",
                limit=self._max_files,
            )
        return super().read(size) or b""


def files_of(archive: zipfile.ZipFile, limits: VolumeLimits | PictureLimits) -> list[zipfile.ZipInfo]:
    """Its entries without the folders. Raises InputTooLarge or UnsupportedMedia, as `_check_entries`."""
    # Not by `is_dir`, which fails on an empty name.
    entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
    _check_entries(entries, limits)
    return entries


def is_litter(name: PurePosixPath) -> bool:
    return name.parts[0] == "__MACOSX" or name.name.lower() in _LITTER


def _check_entries(entries: list[zipfile.ZipInfo], limits: VolumeLimits | PictureLimits) -> None:
    """Raises InputTooLarge or UnsupportedMedia, naming the entry, before anything is unpacked."""
    if len(entries) > limits.max_files:
        raise InputTooLarge(
            f"the zip holds {len(entries)} files; the limit is {limits.max_files}",
            code="too-many-files",
            files=len(entries),
            limit=limits.max_files,
        )
    for number, entry in enumerate(entries, start=1):
        if entry.flag_bits & _ENCRYPTED:
            raise UnsupportedMedia("the zip is encrypted; send it without a password", code="encrypted-archive")
        if entry.compress_type not in _METHODS:
            raise UnsupportedMedia(
                f"entry {number} of the zip is compressed by method {entry.compress_type}; use deflate",
                code="unsupported-encoding",
            )
        if _unsafe(entry):
            raise UnsupportedMedia(
                f"entry {number} of the zip is a link, a device, or a name that leads outside the archive",
                code="unsafe-archive",
                entry=number,
            )


def _unsafe(entry: zipfile.ZipInfo) -> bool:
    """ZipInfo turns backslashes and NULs into something harmless, so the original name is what counts."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    name = entry.orig_filename
    parts = name.replace("\\", "/").split("/")
    return (
        kind not in (0, stat.S_IFREG)
        or name.startswith(("/", "\\"))
        or ".." in parts
        # "." and "./" name no file.
        or not [part for part in parts if part not in ("", ".")]
        # A drive. Other names may have a time of day in them.
        or parts[0][1:2] == ":"
        or ("\0" in name)
    )


def _unpack(
    archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], folder: Path, limits: VolumeLimits
) -> list[Member]:
    """Declared sizes are ignored: what comes out is counted."""
    members: list[Member] = []
    left = limits.max_bytes
    for number, entry in enumerate(entries, start=1):
        name = PurePosixPath(entry.filename)
        if is_litter(name):
            continue
        target = folder / f"{number:06}"
        with archive.open(entry) as source, target.open("wb") as out:
            head = source.read(HEAD_BYTES)
            found = sniff(head)
            if found in (Format.ZIP, Format.GZIP, Format.ARCHIVE):
                raise UnsupportedMedia(
                    f"entry {number} of the zip is itself compressed; send a .nii.gz alone, or zip plain files",
                    code="nested-archive",
                    entry=number,
                )
            chunk = head
            while chunk:
                left -= out.write(chunk)
                if left < 0:
                    raise InputTooLarge(
                        f"the zip unpacks to more than {limits.max_bytes:,} bytes",
                        code="decompression-bomb",
                        limit=limits.max_bytes,
                    )
                chunk = source.read(CHUNK_BYTES)
        members.append(Member(target, name, found))
    return members
