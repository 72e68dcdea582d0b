"""Zip and tar archives of models: bounded, plain files alone, and never a path that leads outside.

Imports have this done by the house's child process (`child`): names and lists in an archive's headers are read into
memory whole, however long they are.
"""

import errno
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_IFMT, S_ISDIR, S_ISREG
from typing import IO

from pydantic import TypeAdapter, ValidationError

from fleet.errors import CorruptInput, FleetError, InputTooLarge, UnsupportedMedia
from fleet.model_source import InnerPath

_PATH: TypeAdapter[str] = TypeAdapter(InnerPath)
MAX_FILES = 2000
_CHUNK = 1024 * 1024
_ENCRYPTED = 0x1 | 0x40
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)

Entry = tuple[str, Callable[[], IO[bytes] | None]]


def unpack(path: Path, folder: Path, max_bytes: int) -> bool:
    """Whether it is an archive; then its files lie in `folder`.

    Raises CorruptInput `corrupt-archive`, InputTooLarge `too-many-files` or `decompression-bomb`, and UnsupportedMedia
    `unsafe-archive` or `encrypted-archive`.
    """
    if not zipfile.is_zipfile(path) and not _is_tar(path):
        return False
    try:
        entries = _zipped(path) if zipfile.is_zipfile(path) else _tarred(path)
        _write(entries, folder, max_bytes)
    except _BROKEN as error:
        raise _corrupt() from error
    except OSError as error:
        # A place before the file's beginning; everything else is the disk's fault.
        if error.errno == errno.EINVAL:
            raise _corrupt() from error
        raise
    return True


def unpack_members(path: Path, members: dict[str, str], folder: Path, max_bytes: int) -> None:
    """Some files of a zip, each to its place. Raises what `unpack` raises, and FleetError `member-missing`."""
    try:
        with zipfile.ZipFile(path) as archive:
            known = set(archive.namelist())
            if missing := sorted(set(members) - known):
                alike = sorted(name for name in known if name.endswith(".onnx"))[:8]
                raise FleetError(
                    f"the wheel has no {', '.join(missing)}" + (f"; it has {', '.join(alike)}" if alike else ""),
                    code="member-missing",
                )
            entries = [(members[name], _opener(archive, archive.getinfo(name))) for name in members]
            _write(iter(entries), folder, max_bytes)
    except _BROKEN as error:
        raise _corrupt() from error


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, zlib.error, lzma.LZMAError, OSError):
        return False


def _zipped(path: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            kind = S_IFMT(entry.external_attr >> 16)
            if entry.is_dir() or S_ISDIR(kind):
                continue
            if kind and not S_ISREG(kind):
                raise _unsafe(entry.filename)
            # `filename` has lost what stood behind a NUL, and backslashes.
            yield entry.orig_filename, _opener(archive, entry)


def _opener(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    if entry.flag_bits & _ENCRYPTED:
        raise UnsupportedMedia("the archive is encrypted: send it without a password", code="encrypted-archive")
    if entry.compress_type not in _METHODS:
        raise UnsupportedMedia("the archive is compressed by another method than deflate", code="unsupported-encoding")
    return lambda: archive.open(entry)


def _tarred(path: Path) -> Iterator[Entry]:
    with tarfile.open(path) as archive:
        for number, entry in enumerate(archive, start=1):
            if number > 2 * MAX_FILES:
                raise _too_many()
            if entry.isdir():
                continue
            if not entry.isfile() or entry.issparse():
                raise _unsafe(entry.name)
            member = entry
            yield entry.name, lambda member=member: archive.extractfile(member)  # type: ignore[misc]


def _write(entries: Iterator[Entry], folder: Path, max_bytes: int) -> None:
    """Announced sizes are not believed: what comes out is counted."""
    left, seen = max_bytes, set()
    for name, opened in entries:
        inner = _inner(name)
        if inner.rpartition("/")[2] in _LITTER or inner.startswith("__MACOSX/"):
            continue
        if inner.lower() in seen:
            raise _unsafe(inner)
        seen.add(inner.lower())
        if len(seen) > MAX_FILES:
            raise _too_many()
        target = folder / inner
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            source, out = opened(), target.open("wb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise _unsafe(inner) from error
        if source is None:
            raise _unsafe(inner)
        with source, out:
            while chunk := source.read(_CHUNK):
                left -= out.write(chunk)
                if left < 0:
                    raise InputTooLarge(
                        f"the archive unpacks to more than {max_bytes:,} bytes: see MODEL_MAX_BYTES",
                        code="decompression-bomb",
                        limit=max_bytes,
                    )


def _inner(name: str) -> str:
    try:
        return _PATH.validate_python(os.path.normpath(name) if name.startswith("./") else name)
    except ValidationError as error:
        raise _unsafe(name) from error


def _corrupt() -> CorruptInput:
    return CorruptInput("the archive is damaged or was cut off: make it anew", code="corrupt-archive")


def _unsafe(name: str) -> UnsupportedMedia:
    return UnsupportedMedia(
        f"the archive's entry {name[:100]!r} is a link, a device, a second file of that name, or leads outside: pack "
        "plain files only",
        code="unsafe-archive",
    )


def _too_many() -> InputTooLarge:
    return InputTooLarge(f"the archive holds more than {MAX_FILES} files", code="too-many-files", limit=MAX_FILES)
